"""A thread that does blocking work for an event loop, in order."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Generic, TypeVar

T = TypeVar("T")


class Worker(Generic[T]):
    """Takes items of a queue, all that are there at once, and hands them to one function.

    The thread is a daemon: a disk that hangs must not keep the process from ending.
    """

    def __init__(
        self,
        name: str,
        handle: Callable[[list[T]], None],
        *,
        finish: Callable[[], None],
    ) -> None:
        """Start the thread.

        Args:
            name: of the thread.
            handle: called in the thread with the items that are queued; must not raise.
            finish: called in the thread after the last item.
        """
        self._loop = asyncio.get_running_loop()
        self._queue: SimpleQueue[T | None] = SimpleQueue()
        self._finished = asyncio.Event()
        self._thread = threading.Thread(
            target=self._run, args=(handle, finish), name=name, daemon=True
        )
        self._thread.start()

    def put(self, item: T) -> None:
        """Queue an item; never blocks."""
        self._queue.put(item)

    async def stop(self) -> None:
        """Let the thread handle what is queued, then end it. Call it once."""
        self._queue.put(None)
        await self._finished.wait()
        self._thread.join()

    def _run(self, handle: Callable[[list[T]], None], finish: Callable[[], None]) -> None:
        try:
            while items := self._take():
                handle(items)
        finally:
            try:
                finish()
            finally:
                # The loop may be gone: then nobody waits.
                with contextlib.suppress(RuntimeError):
                    self._loop.call_soon_threadsafe(self._finished.set)

    def _take(self) -> list[T]:
        items: list[T] = []
        item = self._queue.get()
        with contextlib.suppress(Empty):
            while item is not None:
                items.append(item)
                item = self._queue.get_nowait()
            # The end is found again after these items.
            if items:
                self._queue.put(None)
        return items
