"""How long an event loop did not come round."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from time import perf_counter

_TICK_S = 0.002


@dataclass(slots=True)
class LoopStall:
    """The longest one so far."""

    longest_s: float = 0.0


@asynccontextmanager
async def watch_loop() -> AsyncIterator[LoopStall]:
    """Measure while the context lasts.

    What the operating system gives to other processes counts as well, so on a busy machine the loop
    looks worse than it is.
    """
    stall = LoopStall()

    async def watch() -> None:
        while True:
            due = perf_counter() + _TICK_S
            await asyncio.sleep(_TICK_S)
            stall.longest_s = max(stall.longest_s, perf_counter() - due)

    task = asyncio.create_task(watch())
    try:
        yield stall
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
