"""An event loop whose clock moves only when all wait, and a log in memory that has its time."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from typing import Any

from slstream.transport.contract import Record, StoredRecord
from tests.party.memory_log import MemoryLog

EPOCH_S = 1_000_000.0


class _Selector(selectors.SelectSelector):
    """Does not wait: it says for how long it would have."""

    passed: Callable[[float], None]

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise RuntimeError("all wait for ever")
        self.passed(timeout)
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    """Its time is that of what is waited for; computing takes none."""

    def __init__(self) -> None:
        selector = _Selector()
        selector.passed = self._pass
        super().__init__(selector)
        self._now_s = 0.0

    def _pass(self, seconds: float) -> None:
        self._now_s += max(0.0, seconds)

    def time(self) -> float:
        return self._now_s


def wall_clock() -> float:
    """Stands for :func:`time.time`."""
    return EPOCH_S + asyncio.get_running_loop().time()


def run_virtually(body: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(body)


class TimedLog(MemoryLog):
    """Notes when each record came, and lets users wait."""

    def __init__(self) -> None:
        super().__init__()
        self._came_ms: dict[str, list[int]] = {}
        self._news = asyncio.Event()

    async def append(self, topic: str, records: Sequence[Record], *, partition: int = 0) -> int:
        offset = await super().append(topic, records, partition=partition)
        self._came_ms.setdefault(topic, []).extend([round(1000 * wall_clock())] * len(records))
        self._news.set()
        self._news = asyncio.Event()
        return offset

    async def read(self, topic: str, offset: int, **limits: int) -> Sequence[StoredRecord]:
        return [
            StoredRecord(
                topic=topic,
                partition=record.partition,
                offset=record.offset,
                timestamp_ms=self._came_ms[topic][record.offset],
                value=record.value,
                key=record.key,
                headers=record.headers,
            )
            for record in await super().read(topic, offset, **limits)
        ]

    async def wait(
        self, topic: str, offset: int, *, partition: int = 0, timeout_s: float | None = None
    ) -> bool:
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while not await super().wait(topic, offset, partition=partition):
                    await self._news.wait()
        return await super().wait(topic, offset, partition=partition)
