"""What a topic's settings are called on a Kafka cluster, and back."""

from __future__ import annotations

from collections.abc import Mapping

from slstream.transport.contract import Durability, TopicConfig
from slstream.transport.kafka.settings import KafkaSettings

FRAMING_BYTES = 16_384
"""By which a topic's ``max.message.bytes`` is above its ``max_record_bytes``: Kafka limits whole
record batches. Enough for the batch of one record with a thousand headers, or for hundreds of
small records."""

BROKER_DEFAULT = -1
"""As a replication factor: the broker's own."""

FOR_EVER = "-1"


def topic_settings(
    config: TopicConfig, settings: KafkaSettings, durability: Durability = Durability.CHECKPOINT
) -> dict[str, str]:
    """The settings with which a topic is created, beside its partitions and replicas."""
    wanted = {
        "cleanup.policy": "delete",
        "compression.type": "producer",
        "message.timestamp.type": "LogAppendTime",
        "retention.ms": FOR_EVER if config.retention_ms is None else str(config.retention_ms),
        "retention.bytes": (
            FOR_EVER if config.retention_bytes is None else str(config.retention_bytes)
        ),
        "max.message.bytes": str(config.max_record_bytes + FRAMING_BYTES),
    }
    if durability is Durability.STEP:
        wanted["flush.messages"] = "1"
    if settings.min_insync_replicas is not None:
        wanted["min.insync.replicas"] = str(settings.min_insync_replicas)
    return wanted


def topic_config(partitions: int, found: Mapping[str, str | None]) -> TopicConfig:
    """The settings of a topic that exists, whoever created it."""
    return TopicConfig(
        partitions=partitions,
        retention_ms=_limit(found.get("retention.ms")),
        retention_bytes=_limit(found.get("retention.bytes")),
        max_record_bytes=max(1, int(found.get("max.message.bytes") or 0) - FRAMING_BYTES),
    )


def _limit(text: str | None) -> int | None:
    return None if text is None or int(text) < 0 else int(text)
