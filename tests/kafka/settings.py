"""What a broker of the tests is told: its listeners, users and limits, as server properties."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.kafka.certificates import Certificates
from tests.kafka.ports import LOCALHOST

__all__ = ["ADMIN", "INDEX_BYTES", "SMALL", "BrokerSettings", "Node", "scram_arguments"]

ADMIN = "admin"
"""The user who may do everything, on a broker with an authorizer."""

INDEX_BYTES = 256 * 1024
"""The size of a partition's index files, whatever its log holds: enough for segments of 85 MiB."""

_MECHANISMS = ("SCRAM-SHA-512", "SCRAM-SHA-256")
_LOGIN = "org.apache.kafka.common.security.{}LoginModule required"

SMALL = {
    # Nothing appears by itself: who misspells a topic is told so.
    "auto.create.topics.enable": "false",
    # Groups and transactions on one broker, with as few partitions to open as possible.
    "offsets.topic.num.partitions": "1",
    "offsets.topic.replication.factor": "1",
    "transaction.state.log.num.partitions": "1",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "group.initial.rebalance.delay.ms": "0",
    # A killed broker may come back only when its former session has expired: 9 s by default.
    "broker.session.timeout.ms": "1500",
    "broker.heartbeat.interval.ms": "500",
    # Fewer threads and less memory than a machine of its own would get.
    "num.network.threads": "2",
    "num.io.threads": "4",
    "background.threads": "2",
    "log.cleaner.dedupe.buffer.size": "8388608",
    # Each partition has two of them from the start; 10 MiB by default.
    "log.index.size.max.bytes": str(INDEX_BYTES),
    # A deleted topic's files go at once, not after a minute.
    "log.segment.delete.delay.ms": "1000",
    "file.delete.delay.ms": "1000",
}
"""Server properties of every broker here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerSettings:
    """How a broker differs from a plain one."""

    listeners: tuple[str, ...] = ("PLAINTEXT",)
    """Security protocols, each on a port of its own: PLAINTEXT, SSL, SASL_PLAINTEXT, SASL_SSL."""
    users: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Names and passwords, for SCRAM-SHA-512, SCRAM-SHA-256 and PLAIN alike."""
    certificates: Certificates | None = None
    """Needed by the listeners with TLS."""
    client_certificates: bool = False
    """The SSL listener wants a certificate of its clients; a client's name is its common name."""
    authorizer: bool = False
    """Nobody but `ADMIN` may do anything that no ACL allows."""
    disks: int = 1
    """Folders for logs. A broker ends when its last disk fails; with two, it goes on without the
    partitions of one (see `ProcessBroker.fill_disk`)."""
    properties: Mapping[str, str] = field(default_factory=dict)
    """Server properties of your own; they win."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One broker's place: its ports, folders and fellows."""

    number: int = 1
    ports: Sequence[int]
    """One per listener of the settings."""
    internal_port: int
    """Where brokers speak to each other."""
    controller_ports: Sequence[int]
    """Of all nodes, by number from 1."""
    advertised_port: int | None = None
    """What clients of the first listener are told to dial; by default its own port."""
    data: Path

    @property
    def in_cluster(self) -> bool:
        """Whether there are others."""
        return len(self.controller_ports) > 1

    def properties(self, settings: BrokerSettings) -> str:
        """The text of ``server.properties``."""
        given = SMALL | self._place(settings) | _security(settings)
        if self.in_cluster:
            given |= _inter_broker_login(settings)
        given |= settings.properties
        return "".join(f"{name}={value}\n" for name, value in given.items())

    def _place(self, settings: BrokerSettings) -> dict[str, str]:
        names = list(zip(settings.listeners, self.ports, strict=True))
        own = [("INTERNAL", self.internal_port)]
        controller = [("CONTROLLER", self.controller_ports[self.number - 1])]
        first, *others = names
        advertised = [(first[0], self.advertised_port or first[1]), *others, *own]
        voters = enumerate(self.controller_ports, start=1)
        protocols = {name: name for name in settings.listeners}
        # Between brokers that have company, as an operator would set it up. A single broker
        # speaks to itself only, and its controller to those of the loopback interface.
        protocols["INTERNAL"] = "SASL_PLAINTEXT" if self.in_cluster else "PLAINTEXT"
        protocols["CONTROLLER"] = "PLAINTEXT"
        return {
            "process.roles": "broker,controller",
            "node.id": str(self.number),
            "controller.quorum.voters": ",".join(f"{n}@{LOCALHOST}:{port}" for n, port in voters),
            "listeners": _urls(names + own + controller),
            "advertised.listeners": _urls(advertised),
            "listener.security.protocol.map": ",".join(map(":".join, protocols.items())),
            "controller.listener.names": "CONTROLLER",
            "inter.broker.listener.name": "INTERNAL",
            "log.dirs": ",".join(str(self.data / f"disk-{n + 1}") for n in range(settings.disks)),
            # Apart, for a broker does not survive that the disk of its metadata fails.
            "metadata.log.dir": str(self.data / "metadata"),
        }


def _urls(listeners: Sequence[tuple[str, int]]) -> str:
    return ",".join(f"{name}://{LOCALHOST}:{port}" for name, port in listeners)


def _security(settings: BrokerSettings) -> dict[str, str]:
    found: dict[str, str] = {}
    for name in settings.listeners:
        prefix = f"listener.name.{name.lower()}"
        if name.startswith("SASL"):
            found[f"{prefix}.sasl.enabled.mechanisms"] = ",".join((*_MECHANISMS, "PLAIN"))
            for mechanism in _MECHANISMS:
                key = f"{prefix}.{mechanism.lower()}.sasl.jaas.config"
                found[key] = f"{_LOGIN.format('scram.Scram')};"
            users = " ".join(f'user_{user}="{word}"' for user, word in settings.users.items())
            key = f"{prefix}.plain.sasl.jaas.config"
            found[key] = f"{_LOGIN.format('plain.Plain')} {users};"
        if name.endswith("SSL"):
            wanted = name == "SSL" and settings.client_certificates
            found[f"{prefix}.ssl.client.auth"] = "required" if wanted else "none"
    if (issued := settings.certificates) is not None:
        found["ssl.keystore.type"] = found["ssl.truststore.type"] = "PEM"
        found["ssl.keystore.location"] = str(issued.server)
        found["ssl.truststore.location"] = str(issued.authority)
        found["ssl.principal.mapping.rules"] = "RULE:^.*CN=([^,]+).*$/$1/,DEFAULT"
    if settings.authorizer:
        found["authorizer.class.name"] = "org.apache.kafka.metadata.authorizer.StandardAuthorizer"
        # Nameless are the nodes on the listeners of their own, and clients of a listener that
        # asks for no name: an authorizer is of no use with such a listener.
        found["super.users"] = f"User:{ADMIN};User:ANONYMOUS"
    return found


def _inter_broker_login(settings: BrokerSettings) -> dict[str, str]:
    prefix = "listener.name.internal"
    login = f'username="{ADMIN}" password="{settings.users[ADMIN]}"'
    return {
        "sasl.mechanism.inter.broker.protocol": _MECHANISMS[0],
        f"{prefix}.sasl.enabled.mechanisms": _MECHANISMS[0],
        f"{prefix}.{_MECHANISMS[0].lower()}.sasl.jaas.config": (
            f"{_LOGIN.format('scram.Scram')} {login};"
        ),
    }


def scram_arguments(settings: BrokerSettings) -> list[str]:
    """What tells the storage's format of the users."""
    return [
        argument
        for user, word in settings.users.items()
        for mechanism in _MECHANISMS
        for argument in ("--add-scram", f"{mechanism}=[name={user},password={word}]")
    ]
