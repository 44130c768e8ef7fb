"""The one thread of a party that computes.

torch keeps its thread count per thread: a count set in the main thread does not reach a worker
thread that has already run torch, and another count gives other bits. So all tensors of a party are
computed in one dedicated thread, which sets its count itself, first thing, and checks it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from time import perf_counter
from typing import TypeVar

import torch

from slstream.errors import LocalProtocolError

T = TypeVar("T")

MOST_DEFERRED = 16
"""Deferred functions that may wait to be run; each may hold a batch of activations."""


class ComputeThread:
    """Runs functions one after another, in the order in which they were submitted.

    Once a deferred function has failed nothing runs any more, as all that follows would build on
    what it left undone; every :meth:`call` raises its exception, until :meth:`forget`.
    """

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
        self._deferred: deque[Future[None]] = deque()
        self._failure: Exception | None = None  # the compute thread's own
        self.busy_s = 0.0
        """Seconds spent inside submitted functions; written by the compute thread only."""

    async def call(self, function: Callable[[], T]) -> T:
        """Run ``function`` after all that was submitted before, and return its result.

        When an earlier :meth:`defer` has failed its exception is raised, and ``function`` is not
        run. Cancelling does not stop a function that already runs.
        """
        return await asyncio.wrap_future(self._executor.submit(self._timed, function))

    async def defer(self, function: Callable[[], None]) -> None:
        """Run ``function`` later, in order; its exception is raised by the next :meth:`call`.

        Returns at once, unless :data:`MOST_DEFERRED` functions wait already.
        """
        while self._deferred and self._deferred[0].done():
            self._deferred.popleft()
        while len(self._deferred) >= MOST_DEFERRED:
            await asyncio.shield(asyncio.wrap_future(self._deferred[0]))
            self._deferred.popleft()
        self._deferred.append(self._executor.submit(self._keep_failure, function))

    async def forget(self) -> None:
        """Begin anew, for another session: wait for what was deferred, and drop its exception."""

        def drop() -> None:
            self._failure = None
            self.busy_s = 0.0

        await asyncio.wrap_future(self._executor.submit(drop))

    def close(self) -> None:
        """Let the function that runs finish, drop the others, end the thread."""
        self._executor.shutdown(wait=True, cancel_futures=True)

    def _timed(self, function: Callable[[], T]) -> T:
        if self._failure is not None:
            raise self._failure
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

    def _keep_failure(self, function: Callable[[], None]) -> None:
        try:
            self._timed(function)
        except Exception as error:  # noqa: BLE001 - whatever it is, the next call raises it
            self._failure = error
