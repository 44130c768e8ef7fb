from __future__ import annotations

from pathlib import Path

import pytest

from slstream.errors import ConfigError
from slstream.provisioning.target import Needs, desired, kafka_settings
from slstream.topology import Topology
from slstream.transport.contract import Durability, TopicConfig
from slstream.transport.kafka.settings import KafkaSettings
from slstream.transport.kafka.topic_settings import topic_settings
from tests.provisioning.federation import LASTING, LINKS, load_topology


def needs(*sessions: str) -> Needs:
    return Needs(sessions=sessions, principals={})


def test_a_topic_is_what_the_transport_creates(tmp_path: Path) -> None:
    url = "kafka://one,two:9093?replication_factor=3&min_insync_replicas=2"
    topology = load_topology(tmp_path, transport=url)
    found = desired(topology, kafka_settings(topology, {}), needs("s1"))
    expected = topic_settings(
        TopicConfig(), durability=Durability.CHECKPOINT, min_insync_replicas=2
    )
    assert expected["retention.ms"] == "-1"
    assert expected["cleanup.policy"] == "delete"
    assert expected["min.insync.replicas"] == "2"
    assert [t.settings for t in found.topics] == [expected] * (len(LASTING) + len(LINKS))
    assert {t.replication_factor for t in found.topics} == {3}
    assert found.federation == "credit"
    assert found.acls


def test_the_durability_of_the_topology_is_that_of_its_topics(tmp_path: Path) -> None:
    path = load_topology(tmp_path).path
    assert path is not None
    topology = Topology.load(path, ["durability=step"])
    found = desired(topology, KafkaSettings.of("kafka://one"), needs())
    assert {topic.settings["flush.messages"] for topic in found.topics} == {"1"}


@pytest.mark.parametrize("transport", ["embedded:///somewhere", "other://host"])
def test_only_on_kafka_is_there_anything_to_provide(transport: str, tmp_path: Path) -> None:
    topology = load_topology(tmp_path, transport=transport)
    with pytest.raises(ConfigError, match=r"credit.yaml:\d+: transport: expected kafka://"):
        kafka_settings(topology, {})


def test_the_log_in_the_runs_folder_needs_nothing(tmp_path: Path) -> None:
    path = load_topology(tmp_path).path
    assert path is not None
    path.write_text("\n".join(path.read_text().splitlines()[:-1]))
    with pytest.raises(ConfigError, match="found none, so the log in the run's own folder"):
        kafka_settings(Topology.load(path), {})


def test_the_environment_says_who_asks(tmp_path: Path) -> None:
    environ = {
        "SLSTREAM_KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT",
        "SLSTREAM_KAFKA_USERNAME": "ops",
        "SLSTREAM_KAFKA_PASSWORD": "word",
    }
    settings = kafka_settings(load_topology(tmp_path), environ)
    assert (settings.username, settings.password) == ("ops", "word")
    assert desired(load_topology(tmp_path), settings, needs()).operator == "User:ops"


def test_a_session_that_cannot_be_one(tmp_path: Path) -> None:
    topology = load_topology(tmp_path)
    with pytest.raises(ConfigError, match="session name: expected"):
        desired(topology, kafka_settings(topology, {}), needs("No.Session"))
