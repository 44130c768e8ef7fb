"""Three brokers that replicate each other's logs, and may be lost one by one."""

from __future__ import annotations

import dataclasses
import secrets
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from tests.kafka.broker import BrokerFailedError, ClusterPlace, ProcessBroker, new_cluster_id
from tests.kafka.jars import KafkaJars
from tests.kafka.login import Login
from tests.kafka.ports import Port
from tests.kafka.settings import ADMIN, BrokerSettings

__all__ = ["KafkaCluster"]

_BROKERS = 3
_LISTENER = "SASL_PLAINTEXT"
_LEADER_S = 20

_REPLICATED = {
    "default.replication.factor": "3",
    "min.insync.replicas": "2",
    "offsets.topic.replication.factor": "3",
    "transaction.state.log.replication.factor": "3",
    "transaction.state.log.min.isr": "2",
}


class KafkaCluster:
    """Three brokers with their controllers; not started yet.

    New topics have three replicas, two of which must be in sync. Brokers and clients log in by
    SCRAM-SHA-512, and nobody but `ADMIN` may do anything that no ACL allows.

    Args:
        jars: Which version.
        users: Further users and their passwords.
        properties: Server properties of your own, the same for all.
    """

    def __init__(
        self,
        jars: KafkaJars,
        users: Mapping[str, str] | None = None,
        properties: Mapping[str, str] | None = None,
    ) -> None:
        self.passwords = {ADMIN: secrets.token_urlsafe(12), **(users or {})}
        settings = BrokerSettings(
            listeners=(_LISTENER,),
            users=self.passwords,
            authorizer=True,
            properties=_REPLICATED | dict(properties or {}),
        )
        self._controllers = [Port() for _ in range(_BROKERS)]
        place = ClusterPlace(
            cluster_id=new_cluster_id(),
            number=1,
            controller_ports=[port.number for port in self._controllers],
        )
        self.brokers = [
            ProcessBroker(jars, settings, cluster=dataclasses.replace(place, number=number))
            for number in range(1, _BROKERS + 1)
        ]

    @property
    def address(self) -> str:
        """Of all brokers: ``host:port,host:port,host:port``."""
        return ",".join(broker.address for broker in self.brokers)

    def login(self, user: str = ADMIN) -> Login:
        """How a user reaches it."""
        return Login.to(self.address, _LISTENER, user=user, password=self.passwords[user])

    def start(self) -> None:
        """Start all brokers at once, and wait until each serves clients.

        Raises:
            BrokerFailedError: One did not.
        """
        with ThreadPoolExecutor(_BROKERS) as starts:
            list(starts.map(ProcessBroker.start, self.brokers))

    def leader(self, topic: str, partition: int = 0) -> ProcessBroker:
        """The broker that leads a partition now, or within seconds.

        Raises:
            BrokerFailedError: There is no such partition, or nobody leads it.
        """
        admin = AdminClient({**self.login().settings().librdkafka_options()})
        deadline = time.monotonic() + _LEADER_S
        found: object = "no answer"
        while time.monotonic() < deadline:
            try:
                partitions = admin.list_topics(topic, timeout=_LEADER_S).topics[topic].partitions
            except KafkaException as error:
                found = error
                continue
            leader = partitions[partition].leader if partition in partitions else None
            # A broker that has just died is still said to lead.
            if leader is not None and leader > 0 and self.brokers[leader - 1].is_running:
                return self.brokers[leader - 1]
            found = f"leader {leader} of partitions {sorted(partitions)}"
            time.sleep(0.1)
        raise BrokerFailedError(
            f"expected a leader of {topic}/{partition} within {_LEADER_S} s, found {found}"
        )

    def kill_leader(self, topic: str, partition: int = 0) -> ProcessBroker:
        """Kill the broker that leads a partition; it may be started again."""
        broker = self.leader(topic, partition)
        broker.kill()
        return broker

    def close(self) -> None:
        """Kill all of them, and remove what they wrote."""
        with ExitStack() as closing:
            for port in self._controllers:
                closing.callback(port.close)
            for broker in self.brokers:
                closing.callback(broker.close)
