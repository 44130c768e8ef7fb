"""Brokers as pytest fixtures.

A test module that wants them says ``pytest_plugins = ["tests.kafka.fixtures"]``.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.kafka import finding, shared
from tests.kafka.broker import Broker, ProcessBroker
from tests.kafka.cluster import KafkaCluster
from tests.kafka.handles import ProxiedKafka, StartKafka
from tests.kafka.jars import VERSION, NoKafkaError
from tests.kafka.proxy import Proxy
from tests.kafka.settings import BrokerSettings
from tests.kafka.shared import SecuredKafka

__all__ = [
    "kafka",
    "kafka_cluster",
    "own_kafka",
    "proxied_kafka",
    "secured_kafka",
    "start_kafka",
]


@pytest.fixture(scope="session")
def kafka() -> Iterator[str]:
    """The address of a plain broker that the whole run shares: ``host:port``.

    Do not harm it, and use topics that no other test uses.
    """
    if (address := finding.given_address()) is not None:
        yield address
        return
    try:
        with shared.plain_kafka(_run()) as address:
            yield address
    except NoKafkaError as error:
        finding.no_kafka(error)


@pytest.fixture(scope="session")
def secured_kafka() -> Iterator[SecuredKafka]:
    """A broker with users, certificates and an authorizer that the whole run shares.

    ACLs are the tests' to make, for topics that no other test uses.
    """
    try:
        with shared.secured_kafka(_run()) as found:
            yield found
    except NoKafkaError as error:
        finding.no_kafka(error)


@pytest.fixture
def own_kafka() -> Iterator[Broker]:
    """A plain broker of this test alone, running: kill it, freeze it, start it again."""
    try:
        broker = finding.maker()()
    except NoKafkaError as error:
        finding.no_kafka(error)
    try:
        broker.start()
        yield broker
    finally:
        broker.close()


@pytest.fixture
def start_kafka() -> Iterator[StartKafka]:
    """Starts brokers of this test alone, with settings of its own."""
    with ExitStack() as running:

        def start(
            settings: BrokerSettings | None = None,
            *,
            advertised_port: int | None = None,
            version: str = VERSION,
        ) -> ProcessBroker:
            try:
                jars = finding.process_jars(version)
            except NoKafkaError as error:
                finding.no_kafka(error)
            broker = ProcessBroker(jars, settings, advertised_port=advertised_port)
            running.callback(broker.close)
            broker.start()
            return broker

        yield start


@pytest.fixture
def proxied_kafka(start_kafka: StartKafka) -> Iterator[ProxiedKafka]:
    """A plain broker of this test alone, behind a proxy that can cut its connections."""
    with Proxy() as proxy:
        broker = start_kafka(advertised_port=proxy.port)
        proxy.upstream = broker.address
        yield ProxiedKafka(broker=broker, proxy=proxy)


@pytest.fixture
def kafka_cluster() -> Iterator[KafkaCluster]:
    """Three brokers of this test alone, with users and an authorizer."""
    try:
        cluster = KafkaCluster(finding.process_jars())
    except NoKafkaError as error:
        finding.no_kafka(error)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.close()


def _run() -> str:
    """A name for this pytest run, the same in all of its processes."""
    return os.environ.get("PYTEST_XDIST_TESTRUNUID") or uuid.uuid4().hex
