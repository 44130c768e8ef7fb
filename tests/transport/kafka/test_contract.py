"""The Kafka transport keeps the contract of all transports, on real brokers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from slstream.testing.transport import TransportContract
from tests.kafka import finding
from tests.kafka.broker import ProcessBroker
from tests.kafka.cluster import KafkaCluster
from tests.kafka.jars import OLDER_VERSION, NoKafkaError

pytest_plugins = ["tests.kafka.fixtures"]


class TestKafka(TransportContract):
    @pytest.fixture
    def url(self, kafka: str) -> str:
        return f"kafka://{kafka}"


@pytest.fixture(scope="module")
def older_kafka() -> Iterator[str]:
    """The address of a broker of an older release line."""
    try:
        broker = ProcessBroker(finding.process_jars(OLDER_VERSION))
    except NoKafkaError as error:
        finding.no_kafka(error)
    try:
        broker.start()
        yield broker.address
    finally:
        broker.close()


@pytest.mark.long
class TestOlderKafka(TransportContract):
    @pytest.fixture
    def url(self, older_kafka: str) -> str:
        return f"kafka://{older_kafka}"


@pytest.fixture(scope="module")
def cluster() -> Iterator[KafkaCluster]:
    """Three brokers with logins; two replicas of three must have what counts as sent."""
    try:
        found = KafkaCluster(finding.process_jars())
    except NoKafkaError as error:
        finding.no_kafka(error)
    try:
        found.start()
        yield found
    finally:
        found.close()


@pytest.mark.long
class TestCluster(TransportContract):
    @pytest.fixture
    def url(self, cluster: KafkaCluster, monkeypatch: pytest.MonkeyPatch) -> str:
        for name, value in cluster.login().environment.items():
            monkeypatch.setenv(name, value)
        return f"kafka://{cluster.address}?replication_factor=3&min_insync_replicas=2"
