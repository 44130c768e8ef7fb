"""Futures that wait for offsets, woken by datagrams, commits of this object, or a slow look."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from slstream.errors import TransportError, UnknownTopic
from slstream.transport.embedded.wake import WakeListener

FALLBACK_POLL_S = 0.25
"""How late a reader is when a datagram was lost."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Waiter:
    partition: int
    offset: int
    name: str
    future: asyncio.Future[bool]

    def succeed(self) -> None:
        """The record is there."""
        if not self.future.done():
            self.future.set_result(True)

    def give_up(self) -> None:
        """The deadline has passed."""
        if not self.future.done():
            self.future.set_result(False)

    def fail(self, error: TransportError) -> None:
        """There is nothing to wait for any more."""
        if not self.future.done():
            self.future.set_exception(error)


class Waiters:
    """All waits of one transport object. Used on its event loop only."""

    def __init__(self, wake_directory: Path, end_of: Callable[[int], int | None]) -> None:
        """Start with no waiter and no socket.

        Args:
            wake_directory: where sockets are bound.
            end_of: the end offset of a partition by id, ``None`` when it was deleted.
        """
        self._directory = wake_directory
        self._end_of = end_of
        self._loop = asyncio.get_running_loop()
        self._waiters: set[_Waiter] = set()
        self._listener: WakeListener | None = None
        self._can_listen = True
        self._timer: asyncio.TimerHandle | None = None

    @property
    def socket_name(self) -> str | None:
        """The name of the own socket, if there is one."""
        return self._listener.name if self._listener else None

    async def wait(self, name: str, partition: int, offset: int, timeout_s: float | None) -> bool:
        """Wait until the partition reaches beyond ``offset``.

        Raises:
            UnknownTopic: the partition, called ``name``, was deleted.
            TransportError: what :meth:`fail` was given.
        """
        self._listen()
        waiter = _Waiter(
            partition=partition, offset=offset, future=self._loop.create_future(), name=name
        )
        self._waiters.add(waiter)
        # Only now, so that no append falls between a look and the registration.
        self._look_for(waiter)
        deadline = (
            self._loop.call_later(timeout_s, waiter.give_up) if timeout_s is not None else None
        )
        try:
            return await waiter.future
        finally:
            self._waiters.discard(waiter)
            if deadline is not None:
                deadline.cancel()

    def reached(self, ends: Mapping[int, int]) -> None:
        """Some partitions, by id, have grown to these ends."""
        for waiter in self._waiters:
            if ends.get(waiter.partition, 0) > waiter.offset:
                waiter.succeed()

    def look(self) -> None:
        """Compare all waits with the index."""
        for waiter in self._waiters:
            self._look_for(waiter)

    def _look_for(self, waiter: _Waiter) -> None:
        try:
            end = self._end_of(waiter.partition)
        except TransportError as error:
            waiter.fail(error)
            return
        if end is None:
            waiter.fail(
                UnknownTopic(
                    f"{waiter.name} was deleted while offset {waiter.offset} was waited for"
                )
            )
        elif end > waiter.offset:
            waiter.succeed()

    def fail(self, error: Callable[[], TransportError]) -> None:
        """End all waits with an error."""
        for waiter in self._waiters:
            waiter.fail(error())

    def close(self) -> None:
        """Remove the socket and the timer."""
        if self._timer is not None:
            self._timer.cancel()
        if self._listener is not None:
            self._loop.remove_reader(self._listener.fileno())
            self._listener.close()
            self._listener = None

    def _listen(self) -> None:
        """Bind the socket at the first wait: who never waits is never woken."""
        if self._listener is None and self._can_listen:
            try:
                self._listener = WakeListener(self._directory)
            except OSError:
                # A directory that cannot be written: the slow look has to do.
                self._can_listen = False
            else:
                self._loop.add_reader(self._listener.fileno(), self._woken)
        if self._timer is None:
            self._timer = self._loop.call_later(FALLBACK_POLL_S, self._look_slowly)

    def _woken(self) -> None:
        ends = self._listener.receive() if self._listener else None
        if ends:
            self.reached(ends)
            # After what was waited for has gone on: that is what a training step waits for.
            self._loop.call_soon(self._catch_up)
        elif ends is not None:
            self.look()

    def _catch_up(self) -> None:
        """Take what else has come; when the queue was full some of it is missing, so look."""
        more = False
        while self._listener is not None and self._listener.receive() is not None:
            more = True
        if more:
            self.look()

    def _look_slowly(self) -> None:
        self._timer = None
        if self._waiters:
            self._timer = self._loop.call_later(FALLBACK_POLL_S, self._look_slowly)
            self.look()
