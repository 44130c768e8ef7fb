"""The one thread of a party that computes.

torch keeps its thread count per thread: a count set in the main thread does not reach a worker
thread that has already run torch, and another count gives other bits. So all tensors of a party are
computed in one dedicated thread, which sets its count itself, first thing, and checks it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from time import perf_counter
from typing import TypeVar

import torch

from slstream.errors import LocalProtocolError

T = TypeVar("T")


class ComputeThread:
    """Runs functions one after another, in the order in which they were submitted."""

    def __init__(self, threads: int) -> None:
        """Start the thread.

        Args:
            threads: intra-op threads of torch; part of the environment fingerprint.
        """
        self._threads = threads
        self._executor = ThreadPoolExecutor(
            max_workers=1,
            thread_name_prefix="compute",
            initializer=torch.set_num_threads,
            initargs=(threads,),
        )
        self._deferred: list[Future[None]] = []
        self.busy_s = 0.0
        """Seconds spent inside submitted functions; written by the compute thread only."""

    async def call(self, function: Callable[[], T]) -> T:
        """Run ``function`` after all that was submitted before, and return its result.

        An exception of an earlier :meth:`defer` is raised instead. Cancelling does not stop a
        function that already runs.
        """
        future = asyncio.wrap_future(self._executor.submit(self._timed, function))
        try:
            return await future
        finally:
            self._raise_deferred()

    def defer(self, function: Callable[[], None]) -> None:
        """Run ``function`` later, in order; its exception is raised by the next :meth:`call`."""
        self._deferred.append(self._executor.submit(self._timed, function))

    def close(self) -> None:
        """Let the function that runs finish, drop the others, end the thread."""
        self._executor.shutdown(wait=True, cancel_futures=True)

    def _timed(self, function: Callable[[], T]) -> T:
        if torch.get_num_threads() != self._threads:
            raise LocalProtocolError(
                f"torch computes with {torch.get_num_threads()} threads; expected {self._threads}: "
                "the model's code must not change the thread count"
            )
        start = perf_counter()
        try:
            return function()
        finally:
            self.busy_s += perf_counter() - start

    def _raise_deferred(self) -> None:
        finished, self._deferred = self._deferred, []
        for future in finished:
            future.result()
