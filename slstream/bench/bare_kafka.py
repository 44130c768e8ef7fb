"""The yardstick for the Kafka transport: aiokafka's own producer and consumer, and nothing else.

The settings are the transport's: all replicas acknowledge, the producer is idempotent, nothing is
compressed. The other side is a process of its own, ``python -m slstream.bench.bare_kafka``.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from statistics import median
from time import monotonic, monotonic_ns, perf_counter

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from slstream.bench.peer import DEADLINE_S, start_peer, tell
from slstream.transport.contract import Transport
from slstream.transport.kafka.settings import KafkaSettings

_END = b""
_MODULE = "slstream.bench.bare_kafka"
_LARGEST = 1_048_576
_IN_FLIGHT = 16
_WARM_UP = 20


async def echo_ms(url: str, log: Transport, *, there: int, back: int, rounds: int) -> float:
    """Median round trip, in ms, of records of ``there`` bytes that ``back`` bytes answer."""
    async with _topics(log) as topics, start_peer(_MODULE, "echo", url, *topics, str(back)) as peer:
        trips = []
        async with _producer(url) as producer, _consumer(url, topics[1]) as consumer:
            payload = os.urandom(there)
            for _ in range(_WARM_UP + rounds):
                began = perf_counter()
                await _send(producer, topics[0], payload)
                await _receive(consumer)
                trips.append(1000 * (perf_counter() - began))
            await _send(producer, topics[0], _END)
        await peer.line()
        await peer.end()
    return median(trips[_WARM_UP:])


async def throughput_mb_per_s(
    url: str, log: Transport, *, record_bytes: int, duration_s: float
) -> float:
    """Records as fast as they go, until the other process has them all."""
    async with _topics(log) as topics, start_peer(_MODULE, "receive", url, *topics, "0") as peer:
        async with _producer(url) as producer:
            payload = os.urandom(record_bytes)
            futures: deque[asyncio.Future[object]] = deque()
            sent, began = 0, monotonic_ns()
            while monotonic_ns() - began < duration_s * 1e9:
                if len(futures) >= _IN_FLIGHT:
                    await futures.popleft()
                futures.append(await producer.send(topics[0], payload, partition=0))
                sent += record_bytes
            await asyncio.gather(*futures)
            await _send(producer, topics[0], _END)
        ended: int = (await peer.line())["ended_ns"]
        await peer.end()
    return sent / 1e6 / ((ended - began) / 1e9)


@asynccontextmanager
async def _topics(log: Transport) -> AsyncIterator[tuple[str, str]]:
    token = f"bench-bare.{os.getpid()}.{monotonic_ns()}"
    topics = (f"{token}.there", f"{token}.back")
    for topic in topics:
        await log.create_topic(topic)
    try:
        yield topics
    finally:
        for topic in topics:
            await log.delete_topic(topic)


@asynccontextmanager
async def _producer(url: str) -> AsyncIterator[AIOKafkaProducer]:
    producer = AIOKafkaProducer(
        acks="all",
        enable_idempotence=True,
        max_request_size=2 * _LARGEST,
        **KafkaSettings.of(url).client_options(),
    )
    async with asyncio.timeout(DEADLINE_S):
        await producer.start()
    try:
        yield producer
    finally:
        async with asyncio.timeout(DEADLINE_S):
            await producer.stop()


@asynccontextmanager
async def _consumer(url: str, topic: str) -> AsyncIterator[AIOKafkaConsumer]:
    consumer = AIOKafkaConsumer(
        enable_auto_commit=False,
        max_partition_fetch_bytes=2 * _LARGEST,
        **KafkaSettings.of(url).client_options(),
    )
    async with asyncio.timeout(DEADLINE_S):
        await consumer.start()
    try:
        partition = TopicPartition(topic, 0)
        consumer.assign([partition])
        consumer.seek(partition, 0)
        yield consumer
    finally:
        async with asyncio.timeout(DEADLINE_S):
            await consumer.stop()


async def _send(producer: AIOKafkaProducer, topic: str, payload: bytes) -> None:
    async with asyncio.timeout(DEADLINE_S):
        await producer.send_and_wait(topic, payload, partition=0)


async def _receive(consumer: AIOKafkaConsumer) -> bytes:
    async with asyncio.timeout(DEADLINE_S):
        record = await consumer.getone()
    value: bytes = record.value
    return value


async def _serve(role: str, url: str, topic: str, back: str, size: str) -> None:
    """What the other process does: take records until the end, or answer each one."""
    answer = os.urandom(int(size))
    async with _consumer(url, topic) as consumer, _producer(url) as producer:
        tell({"ready_s": monotonic()})
        while (await _receive(consumer)) != _END:
            if role == "echo":
                await _send(producer, back, answer)
        tell({"ended_ns": monotonic_ns()})


if __name__ == "__main__":
    asyncio.run(_serve(*sys.argv[1:]))
