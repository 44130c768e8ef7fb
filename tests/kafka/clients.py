"""The least that a test does with a broker: a topic, some records, and a look at them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import for_code

from tests.kafka.login import Login

__all__ = ["consume", "create_topic", "produce", "producer"]

_PATIENCE_S = 20


async def create_topic(login: Login, topic: str) -> None:
    """With one partition, and as many replicas as the broker gives by itself.

    Raises:
        KafkaError: What the broker answered.
    """
    admin = AIOKafkaAdminClient(**login.settings().client_options())
    try:
        await admin.start()
        # An empty assignment is none: aiokafka wants one beside -1, the broker's own number.
        answer = await admin.create_topics([NewTopic(topic, 1, -1, replica_assignments={})])
    finally:
        await admin.close()
    for _, code, *_ in answer.topic_errors:
        if code:
            raise for_code(code)(topic)


@asynccontextmanager
async def producer(login: Login) -> AsyncIterator[AIOKafkaProducer]:
    """One that keeps a record's place and sends it once, until the broker has it."""
    client = AIOKafkaProducer(**login.settings().client_options(), enable_idempotence=True)
    try:  # not "async with", which leaves one open that could not be started
        await client.start()
        yield client
    finally:
        await client.stop()


async def produce(login: Login, topic: str, values: Sequence[bytes]) -> None:
    """Append one by one."""
    async with asyncio.timeout(_PATIENCE_S), producer(login) as client:
        for value in values:
            await client.send_and_wait(topic, value, partition=0)


async def consume(login: Login, topic: str, count: int) -> list[bytes]:
    """The first values of a topic."""
    client = AIOKafkaConsumer(**login.settings().client_options())
    found: list[bytes] = []
    try:
        async with asyncio.timeout(_PATIENCE_S):
            await client.start()
            client.assign([TopicPartition(topic, 0)])
            await client.seek_to_beginning()
            while len(found) < count:
                found.append((await client.getone()).value)
    finally:
        await client.stop()
    return found
