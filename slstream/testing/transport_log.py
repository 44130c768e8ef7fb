"""What the transport tests are made of: another process, whole reads, and the fixtures."""

from __future__ import annotations

import asyncio
import json
import sys
import uuid
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from slstream.transport.contract import Record, StoredRecord, Transport

_DEADLINE_S = 20.0


class Peer:
    """Another process that uses the same log."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def line(self) -> Any:
        """The next thing it has to say."""
        if self._process.stdout is None:
            raise RuntimeError("the peer was started without a pipe")
        async with asyncio.timeout(_DEADLINE_S):
            line = await self._process.stdout.readline()
        if not line:
            raise RuntimeError("the peer ended early; its standard error says why")
        return json.loads(line)

    async def kill(self) -> None:
        """SIGKILL, as when the machine's memory is full."""
        self._process.kill()
        await self._process.wait()


@asynccontextmanager
async def peer(
    task: str, url: str, topic: str, number: int = 0, label: str = ""
) -> AsyncIterator[Peer]:
    """Start a task of :mod:`slstream.testing.transport_peer`; it has opened the log on entry."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "slstream.testing.transport_peer"),
        *(task, url, topic, str(number), label),
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        started = Peer(process)
        if await started.line() != "ready":
            raise RuntimeError("the peer did not open the log")
        yield started
    finally:
        if process.returncode is None:
            process.kill()
        # Until the pipe is read to its end its transport stays open.
        await process.communicate()


def run(body: Coroutine[Any, Any, None]) -> None:
    """Run a test's coroutine with asyncio's own checks on."""

    async def limited() -> None:
        async with asyncio.timeout(50):
            await body

    asyncio.run(limited(), debug=True)


async def read_all(log: Transport, topic: str, partition: int = 0) -> list[StoredRecord]:
    """Every record that is kept, and a check that offsets have no holes."""
    offset = first = await log.start_offset(topic, partition=partition)
    records: list[StoredRecord] = []
    while found := await log.read(topic, offset, partition=partition):
        records += found
        offset = found[-1].offset + 1
    assert [r.offset for r in records] == list(range(first, first + len(records)))
    return records


def values(records: Sequence[StoredRecord]) -> list[bytes]:
    """Their values."""
    return [record.value for record in records]


def numbered(count: int) -> list[Record]:
    """Records that can be told apart."""
    return [Record(value=b"%d" % i) for i in range(count)]


class TransportFixtures:
    """What every part of the suite gets, beside the fixture ``url`` of the class under test."""

    @pytest.fixture
    def topic(self) -> str:
        """A topic that no other test uses."""
        return f"contract-{uuid.uuid4().hex}"
