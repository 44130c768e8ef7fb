from __future__ import annotations

import pytest

from slstream.transport.contract import Durability, TopicConfig
from slstream.transport.kafka.topic_settings import topic_config, topic_settings


def settings_of(
    config: TopicConfig,
    durability: Durability = Durability.CHECKPOINT,
    min_insync_replicas: int | None = None,
) -> dict[str, str]:
    return topic_settings(config, durability=durability, min_insync_replicas=min_insync_replicas)


@pytest.mark.parametrize(
    "config",
    [
        TopicConfig(),
        TopicConfig(partitions=3, retention_ms=1, retention_bytes=1, max_record_bytes=1),
        TopicConfig(retention_ms=1 << 62, retention_bytes=1 << 62, max_record_bytes=1 << 30),
    ],
)
def test_settings_come_back_as_they_were(config: TopicConfig) -> None:
    assert topic_config(config.partitions, settings_of(config)) == config


def test_a_log_is_kept_for_ever_as_it_was_written() -> None:
    assert settings_of(TopicConfig()) == {
        "cleanup.policy": "delete",
        "compression.type": "producer",
        "message.timestamp.type": "LogAppendTime",
        "retention.ms": "-1",
        "retention.bytes": "-1",
        "max.message.bytes": str(1_048_576 + 16_384),
    }


def test_step_durability_forces_each_batch_to_the_disk() -> None:
    assert settings_of(TopicConfig(), Durability.STEP)["flush.messages"] == "1"


def test_replicas_that_must_be_in_sync() -> None:
    assert settings_of(TopicConfig(), min_insync_replicas=2)["min.insync.replicas"] == "2"


def test_a_topic_that_somebody_else_created_may_take_nothing() -> None:
    found = settings_of(TopicConfig()) | {"max.message.bytes": "100"}
    assert topic_config(1, found).max_record_bytes == 0
