"""How fast records cross from one process to another over a transport.

The other side is a process of its own, started with ``python -m slstream.bench.transport``.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import struct
import sys
import tempfile
import time
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slstream.bench import bare_kafka
from slstream.bench.loop_stall import watch_loop
from slstream.bench.peer import DEADLINE_S, Peer, start_peer, tell
from slstream.bench.report import Report, Result, at_least, at_most
from slstream.errors import TransportTimeout
from slstream.transport.connect import embedded_url, open_transport
from slstream.transport.contract import Durability, Record, StoredRecord, Transport

_RECORD_BYTES = 262_144
_ECHO_BYTES = (4_096, 65_536)
_ECHO_ROUNDS = 200
_RATE_HZ = 100.0
_WARM_UP = 20
_IN_FLIGHT = 16
_RATIO_TO_AIOKAFKA = 0.9
_LONGEST_STALL_MS = 50.0
_STAMP = struct.Struct(">Q")
"""The key of a record: when it was sent, in ns of CLOCK_MONOTONIC, which all processes of a machine
share."""
_END = b""
"""A value that ends the stream."""


def run(
    *,
    url: str | None = None,
    durability: Durability = Durability.CHECKPOINT,
    duration_s: float = 3.0,
) -> Report:
    """Measure throughput, paced latency and echo round trips between two processes.

    Args:
        url: of the transport; a temporary embedded log by default.
        durability: of both processes.
        duration_s: of the throughput part and of the latency part.

    Returns:
        ``throughput_mb_per_s``: 256 KiB records as fast as they go, until the other process has
        them all.
        ``latency_p50_ms`` and ``latency_p99_ms``: 256 KiB records, 100 a second, from the call of
        ``append`` until the other process has the record. ``echo_<KiB>_kib_p50_ms``: there and
        back, for small records. On an embedded log, ``raw_file_mb_per_s``: the same bytes written
        to one file by one process. On Kafka, ``ratio_to_aiokafka``: the throughput in terms of
        aiokafka's own producer and consumer, and ``longest_loop_stall_ms``: for how long the
        sending process's event loop did not come round at worst.
    """
    with tempfile.TemporaryDirectory(prefix="slstream-bench-") as scratch:
        bench = _Bench(url or embedded_url(Path(scratch) / "log"), durability, duration_s)
        results, sent = asyncio.run(bench.measure())
        if bench.is_kafka:
            yardsticks = []
        else:
            raw = _raw_file_mb_per_s(Path(scratch) / "raw", sent)
            yardsticks = [Result(name="raw_file_mb_per_s", value=raw, unit="MB/s")]
    throughput, *others = results
    return Report(
        bench="transport",
        results=(throughput, *yardsticks, *others),
        notes=(f"durability {durability}; {sent / 1e6:.0f} MB in the throughput part",),
    )


@dataclass(frozen=True, slots=True)
class _Bench:
    """What all parts of a run share."""

    url: str
    durability: Durability
    duration_s: float

    @property
    def is_kafka(self) -> bool:
        """Whether brokers hold the log."""
        return self.url.startswith("kafka:")

    async def measure(self) -> tuple[list[Result], int]:
        """All results that need two processes, throughput first, and the bytes that part sent."""
        async with await open_transport(self.url, durability=self.durability) as log:
            p50, p99 = await self._latency(log)
            echoes = [await self._echo(log, size) for size in _ECHO_BYTES]
            async with watch_loop() as stall:
                throughput, sent = await self._throughput(log)
            latencies = ("latency_p50_ms", p50), ("latency_p99_ms", p99)
            if not self.is_kafka:
                return [
                    at_least("throughput_mb_per_s", throughput, "MB/s", 250),
                    *(at_most(n, v, "ms", t) for (n, v), t in zip(latencies, (1, 10), strict=True)),
                    *echoes,
                ], sent
            bare = await bare_kafka.throughput_mb_per_s(
                self.url, log, record_bytes=_RECORD_BYTES, duration_s=self.duration_s
            )
        return [
            Result(name="throughput_mb_per_s", value=throughput, unit="MB/s"),
            Result(name="aiokafka_mb_per_s", value=bare, unit="MB/s"),
            at_least("ratio_to_aiokafka", throughput / bare, "x", _RATIO_TO_AIOKAFKA),
            at_most("longest_loop_stall_ms", 1000 * stall.longest_s, "ms", _LONGEST_STALL_MS),
            *(Result(name=name, value=value, unit="ms") for name, value in latencies),
            *echoes,
        ], sent

    async def _throughput(self, log: Transport) -> tuple[float, int]:
        payload = os.urandom(_RECORD_BYTES)
        async with self._peer(log, "receive") as (topic, _, peer):
            began = time.monotonic_ns()
            appends: deque[asyncio.Task[int]] = deque()
            sent = 0
            while time.monotonic_ns() - began < self.duration_s * 1e9:
                if len(appends) >= _IN_FLIGHT:
                    await appends.popleft()
                append = log.append(topic, [_stamped(payload)])
                appends.append(asyncio.create_task(append))
                sent += _RECORD_BYTES
            await asyncio.gather(*appends)
            ended = (await _finish(log, topic, peer))["ended_ns"]
        return sent / 1e6 / ((ended - began) / 1e9), sent

    async def _latency(self, log: Transport) -> tuple[float, float]:
        payload = os.urandom(_RECORD_BYTES)
        async with self._peer(log, "receive") as (topic, _, peer):
            due = time.monotonic()
            for _ in range(_WARM_UP + max(10, round(self.duration_s * _RATE_HZ))):
                due += 1 / _RATE_HZ
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                await log.append(topic, [_stamped(payload)])
            found = await _finish(log, topic, peer)
        latencies = sorted(found["latencies_ms"][_WARM_UP:])
        return statistics.median(latencies), latencies[int(len(latencies) * 0.99)]

    async def _echo(self, log: Transport, size: int) -> Result:
        payload = os.urandom(size)
        trips = []
        async with self._peer(log, "echo") as (topic, back, peer):
            for i in range(_WARM_UP + _ECHO_ROUNDS):
                began = time.monotonic_ns()
                await log.append(topic, [_stamped(payload)])
                await _next(log, back, i)
                trips.append((time.monotonic_ns() - began) / 1e6)
            await _finish(log, topic, peer)
        name = f"echo_{size // 1024}_kib_p50_ms"
        return Result(name=name, value=statistics.median(trips[_WARM_UP:]), unit="ms")

    @asynccontextmanager
    async def _peer(self, log: Transport, role: str) -> AsyncIterator[tuple[str, str, Peer]]:
        """The other process, with a topic to it and one from it."""
        token = f"bench.{os.getpid()}.{time.monotonic_ns()}"
        topics = (f"{token}.there", f"{token}.back")
        for topic in topics:
            await log.create_topic(topic)
        try:
            async with start_peer(
                "slstream.bench.transport", role, self.url, self.durability, *topics
            ) as peer:
                yield *topics, peer
        finally:
            for topic in topics:
                await log.delete_topic(topic)


def _stamped(value: bytes) -> Record:
    return Record(value=value, key=_STAMP.pack(time.monotonic_ns()))


async def _finish(log: Transport, topic: str, peer: Peer) -> dict[str, Any]:
    await log.append(topic, [Record(value=_END)])
    found = await peer.line()
    await peer.end()
    return found


async def _next(log: Transport, topic: str, offset: int) -> Sequence[StoredRecord]:
    if not await log.wait(topic, offset, timeout_s=DEADLINE_S):
        raise TransportTimeout(f"{topic}: no record {offset} within {DEADLINE_S:g} s")
    return await log.read(topic, offset)


def _raw_file_mb_per_s(path: Path, size: int) -> float:
    payload = os.urandom(_RECORD_BYTES)
    began = time.monotonic_ns()
    with path.open("wb", buffering=0) as file:
        for _ in range(max(1, size // _RECORD_BYTES)):
            file.write(payload)
    return (
        max(1, size // _RECORD_BYTES) * _RECORD_BYTES / 1e6 / ((time.monotonic_ns() - began) / 1e9)
    )


async def _serve(role: str, url: str, durability: Durability, topic: str, back: str) -> None:
    """What the other process does: take records until the end, or send each one back."""
    latencies_ms: list[float] = []
    offset = 0
    async with await open_transport(url, durability=durability) as log:
        tell({"ready": True})
        while True:
            for record in await _next(log, topic, offset):
                now = time.monotonic_ns()
                if record.value == _END:
                    tell({"ended_ns": now, "latencies_ms": latencies_ms})
                    return
                if role == "echo":
                    await log.append(back, [Record(value=record.value)])
                latencies_ms.append((now - _STAMP.unpack(record.key or b"")[0]) / 1e6)
                offset = record.offset + 1


if __name__ == "__main__":
    _role, _url, _durability, _topic, _back = sys.argv[1:]
    asyncio.run(_serve(_role, _url, Durability(_durability), _topic, _back))
