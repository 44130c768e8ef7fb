"""Which topic names and settings every transport accepts."""

from __future__ import annotations

import re
from dataclasses import fields

from slstream.errors import TopicExists
from slstream.transport.contract import TopicConfig

_NAME = re.compile(r"[A-Za-z0-9._-]{1,200}")
MAX_PARTITIONS = 1024
MAX_RECORD_BYTES = 1 << 30


def check_topic(topic: str, config: TopicConfig) -> None:
    """Refuse a name or setting that a transport cannot promise to keep.

    Raises:
        ValueError: the message says what was expected and found.
    """
    if not _NAME.fullmatch(topic) or topic in (".", ".."):
        raise ValueError(
            f"topic name: expected 1 to 200 of A-Z a-z 0-9 . _ - (and not '.' or '..'), "
            f"found {topic!r}"
        )
    _check_range(topic, "partitions", config.partitions, 1, MAX_PARTITIONS)
    _check_range(topic, "max_record_bytes", config.max_record_bytes, 1, MAX_RECORD_BYTES)
    for name in ("retention_ms", "retention_bytes"):
        value = getattr(config, name)
        if value is not None:
            _check_range(topic, name, value, 1, 1 << 62)


def check_same_config(topic: str, existing: TopicConfig, wanted: TopicConfig) -> None:
    """Compare the settings of a topic that exists with those asked for.

    Raises:
        TopicExists: naming the first setting that differs.
    """
    for field in fields(TopicConfig):
        found, asked = getattr(existing, field.name), getattr(wanted, field.name)
        if found != asked:
            raise TopicExists(
                f"topic {topic!r} exists with {field.name}={found}, and {field.name}={asked} was "
                f"asked for; ask for the same, or change the topic's (on Kafka `slstream topology "
                f"apply` does). To delete it would delete its records"
            )


def _check_range(topic: str, name: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise ValueError(f"topic {topic!r}: expected {name} in {low} to {high}, found {value}")
