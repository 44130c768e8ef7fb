"""Logs on Kafka for the tests of this package."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from slstream.testing.transport_log import numbered, read_all, run, values
from slstream.transport.contract import Durability, Transport
from slstream.transport.kafka.settings import KafkaSettings
from slstream.transport.kafka.transport import KafkaTransport

__all__ = ["follow", "new_log", "new_topic", "numbered", "open_log", "read_all", "run", "values"]


def new_topic() -> str:
    """One that no other test uses."""
    return f"kafka-{uuid.uuid4().hex}"


async def open_log(
    address: str,
    *,
    durability: Durability = Durability.CHECKPOINT,
    read_only: bool = False,
    stuck_s: float = 60.0,
) -> KafkaTransport:
    """The log on a plain broker."""
    return await KafkaTransport.open(
        KafkaSettings.of(f"kafka://{address}", {}),
        durability=durability,
        read_only=read_only,
        stuck_s=stuck_s,
    )


@asynccontextmanager
async def new_log(
    address: str, *, stuck_s: float = 60.0
) -> AsyncIterator[tuple[KafkaTransport, str]]:
    """The log on a plain broker, and a topic of it that no other test uses."""
    topic = new_topic()
    async with await open_log(address, stuck_s=stuck_s) as log:
        await log.create_topic(topic)
        yield log, topic


async def follow(log: Transport, topic: str, count: int) -> Sequence[bytes]:
    """The first values of a topic, as they come."""
    seen: list[bytes] = []
    while len(seen) < count:
        await log.wait(topic, len(seen))
        seen += values(await log.read(topic, len(seen)))
    return seen
