"""How much may be in flight to the writer thread, and in which order."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from slstream.transport.embedded.offsets import AppendRequest

MAX_BYTES_IN_FLIGHT = 64 << 20
MAX_APPENDS_IN_FLIGHT = 4096


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Append:
    """An append call that has not returned yet."""

    request: AppendRequest
    size: int
    future: asyncio.Future[int]


class Admission:
    """Lets appends through in the order of the calls while they fit. Used on the event loop only.

    One that is above the limit by itself goes through alone.
    """

    def __init__(self, queue: Callable[[Append], None]) -> None:
        """Start empty.

        Args:
            queue: takes what is let through.
        """
        self._queue = queue
        self._waiting: deque[Append] = deque()
        self._in_flight: set[Append] = set()
        self._bytes = 0

    def submit(self, append: Append) -> None:
        """Let an append through now, or when earlier ones are settled."""
        self._waiting.append(append)
        self._let_through()

    def settle(self, append: Append, outcome: int | BaseException) -> None:
        """Answer an append that was let through."""
        if append not in self._in_flight:
            return  # Failed already, when the transport broke.
        self._in_flight.discard(append)
        self._bytes -= append.size
        _answer(append, outcome)
        self._let_through()

    def let_all_through(self) -> None:
        """Stop limiting, because nothing more will be submitted."""
        self._let_through(limited=False)

    def fail(self, error: Callable[[], BaseException]) -> None:
        """Answer all that are not settled with an error."""
        for append in [*self._in_flight, *self._waiting]:
            _answer(append, error())
        self._in_flight.clear()
        self._waiting.clear()
        self._bytes = 0

    def _let_through(self, *, limited: bool = True) -> None:
        while self._waiting and not (limited and self._full(self._waiting[0].size)):
            append = self._waiting.popleft()
            if append.future.done():
                continue  # Cancelled while it waited for its turn.
            self._in_flight.add(append)
            self._bytes += append.size
            self._queue(append)

    def _full(self, size: int) -> bool:
        return bool(self._in_flight) and (
            self._bytes + size > MAX_BYTES_IN_FLIGHT
            or len(self._in_flight) >= MAX_APPENDS_IN_FLIGHT
        )


def _answer(append: Append, outcome: int | BaseException) -> None:
    if append.future.done():
        return
    if isinstance(outcome, BaseException):
        append.future.set_exception(outcome)
    else:
        append.future.set_result(outcome)
