"""The settings that a topic gets on a Kafka broker, and what they say when they are read back.

One place for all who create topics: a party that starts a session, and whoever runs
``slstream topology apply``. A topic that either has created suits the other.
"""

from __future__ import annotations

from collections.abc import Mapping

from slstream.transport.contract import Durability, TopicConfig

FRAMING_BYTES = 16_384
"""What Kafka's framing of a batch may add to the bytes of its records that a topic's limit counts:
61 bytes a batch, and about 20 a record and 4 a header."""

_FOR_EVER = -1


def topic_settings(
    config: TopicConfig, *, durability: Durability, min_insync_replicas: int | None
) -> dict[str, str]:
    """Kafka's settings of a topic, without its number of partitions and replicas.

    Args:
        config: what was asked for.
        durability: with ``STEP`` the broker forces each batch to its disk.
        min_insync_replicas: how many must have a record before it counts as sent; ``None`` leaves
            it to the broker.
    """
    settings = {
        "cleanup.policy": "delete",
        "compression.type": "producer",
        "max.message.bytes": str(config.max_record_bytes + FRAMING_BYTES),
        "message.timestamp.type": "LogAppendTime",
        "retention.bytes": str(_number(config.retention_bytes)),
        "retention.ms": str(_number(config.retention_ms)),
    }
    if durability is Durability.STEP:
        settings["flush.messages"] = "1"
    if min_insync_replicas is not None:
        settings["min.insync.replicas"] = str(min_insync_replicas)
    return settings


def topic_config(partitions: int, settings: Mapping[str, str]) -> TopicConfig:
    """The inverse: what a topic with these settings promises."""
    ms, size = int(settings["retention.ms"]), int(settings["retention.bytes"])
    return TopicConfig(
        partitions=partitions,
        retention_ms=None if ms == _FOR_EVER else ms,
        retention_bytes=None if size == _FOR_EVER else size,
        # Whoever created it may have allowed less than the framing: then it takes nothing.
        max_record_bytes=max(0, int(settings["max.message.bytes"]) - FRAMING_BYTES),
    )


def _number(limit: int | None) -> int:
    return _FOR_EVER if limit is None else limit
