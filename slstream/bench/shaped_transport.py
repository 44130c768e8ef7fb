"""A transport at the far end of a link: the log is where it was, and the way to it takes time.

Keeps the contract of :class:`Transport`, over any other transport. What passes the link:

- An append goes up with the wire size of its records. Then it is in the log, and returns when the
  acknowledgement has come back. Appends that are not awaited one by one are under way together;
  who awaits each before the next has a round trip for each.
- Records come down from the moment at which the log took them, also while nobody reads: a reader is
  subscribed from its first look at a partition on, as Kafka's consumers fetch ahead. What has come
  once is not sent again.
- A read that finds nothing, and every question (offsets, topics, creation), takes a round trip.

All topics of a party share its link. Requests and acknowledgements take their turn on it, and its
delay, but no bytes; TCP's slow start and connecting again after a cut are not part of the model.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from time import time
from typing import TypeVar

from slstream.bench.shaped_link import Direction, Link
from slstream.errors import OffsetOutOfRange, TransportClosed
from slstream.frames.wire_size import wire_size
from slstream.transport.contract import Record, StoredRecord, TopicConfig, Transport

MAX_BYTES_IN_FLIGHT = 67_108_864
"""Of appends on their way up; more wait in the caller."""

_READ_AHEAD = 4096
"""Records whose way down is planned before they are asked for."""

_SUBSCRIPTIONS = 64
"""Partitions whose place is kept; one that is looked at again later is asked for anew."""

_CLOSE_S = 2.5
"""How long closing waits for what is on its way up."""

T = TypeVar("T")


@dataclass(slots=True, kw_only=True)
class _Subscription:
    """How far a partition has come down."""

    first: int
    """Offset from which on it was asked for."""
    asked_s: float
    """When the log learnt of it."""
    next: int
    """Offset of the first record whose way down is not planned."""
    arrived: int
    """Offset of the first record that is not here."""
    arrivals: deque[float] = field(default_factory=deque)
    """When the records from ``arrived`` on are here; ascending."""

    def advance(self, now_s: float) -> None:
        """Count what has arrived by now."""
        while self.arrivals and self.arrivals[0] <= now_s:
            self.arrivals.popleft()
            self.arrived += 1

    def arrival_s(self, offset: int) -> float | None:
        """When a record is here, 0 when it is already; ``None`` while that is not planned."""
        if offset >= self.next:
            return None
        return 0.0 if offset < self.arrived else self.arrivals[offset - self.arrived]


class ShapedTransport(Transport):
    """Forwards to another transport, as late as a link would."""

    def __init__(self, inner: Transport, link: Link, *, seed: str) -> None:
        """Open the link now.

        Args:
            inner: the transport beside the log; closed with this one. Its clock is this machine's.
            link: what the way there is like.
            seed: of the link's jitter.
        """
        self._inner = inner
        self._opened_at = time()
        self._up = Direction(link, seed=f"{seed} up", opened_at=self._opened_at)
        self._down = Direction(link, seed=f"{seed} down", opened_at=self._opened_at)
        self._subscriptions: dict[tuple[str, int], _Subscription] = {}
        self._admitting = asyncio.Lock()
        self._room = asyncio.Event()
        self._bytes_in_flight = 0
        self._in_flight: set[asyncio.Task[int]] = set()
        self._last_issued: asyncio.Event | None = None
        self._closed = asyncio.Event()
        self._gave_up = asyncio.Event()
        """Closing has waited for long enough."""

    async def create_topic(self, topic: str, config: TopicConfig | None = None) -> None:
        """See :class:`Transport`."""
        await self._ask(lambda: self._inner.create_topic(topic, config))

    async def delete_topic(self, topic: str) -> None:
        """See :class:`Transport`."""
        await self._ask(lambda: self._inner.delete_topic(topic))

    async def topics(self, prefix: str = "") -> Sequence[str]:
        """See :class:`Transport`."""
        return await self._ask(lambda: self._inner.topics(prefix))

    async def topic_config(self, topic: str) -> TopicConfig:
        """See :class:`Transport`."""
        return await self._ask(lambda: self._inner.topic_config(topic))

    async def start_offset(self, topic: str, *, partition: int = 0) -> int:
        """See :class:`Transport`."""
        return await self._ask(lambda: self._inner.start_offset(topic, partition=partition))

    async def end_offset(self, topic: str, *, partition: int = 0) -> int:
        """See :class:`Transport`."""
        return await self._ask(lambda: self._inner.end_offset(topic, partition=partition))

    async def append(self, topic: str, records: Sequence[Record], *, partition: int = 0) -> int:
        """See :class:`Transport`."""
        self._check()
        size = sum(map(wire_size, records))
        async with self._admitting:  # in the order of the calls
            while self._bytes_in_flight >= MAX_BYTES_IN_FLIGHT:
                self._room.clear()
                await self._room.wait()
                self._check()
            self._bytes_in_flight += size
            arrival_s = self._up.transfer(size, self._now_s())
            before, issued = self._last_issued, asyncio.Event()
            self._last_issued = issued

            async def pass_link() -> None:
                try:
                    await self._until(arrival_s, unless=self._gave_up)
                    if before is not None:
                        await before.wait()
                finally:
                    issued.set()
                    self._bytes_in_flight -= size
                    self._room.set()

            async def send() -> int:
                await pass_link()
                # Nothing was awaited since it was issued, so the next one cannot overtake it.
                offset = await self._inner.append(topic, records, partition=partition)
                with suppress(TransportClosed):  # it is in the log
                    acknowledged_s = self._down.transfer(0, self._now_s())
                    await self._until(acknowledged_s, unless=self._gave_up)
                return offset

            sending = asyncio.create_task(send())
            self._in_flight.add(sending)
            sending.add_done_callback(self._forget)
        # Who gives up waiting does not take back what is under way.
        return await asyncio.shield(sending)

    def _forget(self, sending: asyncio.Task[int]) -> None:
        self._in_flight.discard(sending)
        if not sending.cancelled():
            sending.exception()  # nobody need be there to be told

    async def read(
        self,
        topic: str,
        offset: int,
        *,
        partition: int = 0,
        max_records: int = 1024,
        max_bytes: int = 8_388_608,
    ) -> Sequence[StoredRecord]:
        """See :class:`Transport`."""
        self._check()
        place = (topic, partition)
        subscription = self._subscription(place, offset)
        await self._plan(place, subscription, offset)
        if subscription.arrived <= offset:
            # Whether there is nothing yet is for the log to say.
            await self._until(self._up.transfer(0, self._now_s()))
            await self._plan(place, subscription, offset)
            arrival_s = subscription.arrival_s(offset)
            if arrival_s is None:
                arrival_s = self._down.transfer(0, self._now_s())
            await self._until(arrival_s)
            subscription.advance(arrival_s)  # timers may be a little early
        records = await self._inner.read(
            topic, offset, partition=partition, max_records=max_records, max_bytes=max_bytes
        )
        return [record for record in records if record.offset < subscription.arrived]

    async def wait(
        self, topic: str, offset: int, *, partition: int = 0, timeout_s: float | None = None
    ) -> bool:
        """See :class:`Transport`."""
        self._check()
        place = (topic, partition)
        end_s = None if timeout_s is None else self._now_s() + timeout_s
        subscription = self._subscription(place, offset)
        while (arrival_s := subscription.arrival_s(offset)) is None:
            left_s = None if end_s is None else max(0.0, end_s - self._now_s())
            if not await self._inner.wait(
                topic, subscription.next, partition=partition, timeout_s=left_s
            ):
                return False
            try:
                await self._plan(place, subscription, offset)
            except OffsetOutOfRange:
                return True  # removed since; reading it says so
        if end_s is not None and arrival_s > end_s:
            await self._until(end_s)
            return False
        await self._until(arrival_s)
        subscription.advance(arrival_s)  # timers may be a little early
        return True

    def _subscription(self, place: tuple[str, int], offset: int) -> _Subscription:
        """The partition's, or a new one when it does not lead to ``offset``."""
        kept = self._subscriptions.pop(place, None)
        if kept is None or not kept.first <= offset <= kept.next:
            asked_s = self._up.transfer(0, self._now_s())
            kept = _Subscription(first=offset, asked_s=asked_s, next=offset, arrived=offset)
        self._subscriptions[place] = kept  # the one that was used last is the last
        if len(self._subscriptions) > _SUBSCRIPTIONS:
            del self._subscriptions[next(iter(self._subscriptions))]
        return kept

    async def _plan(self, place: tuple[str, int], subscription: _Subscription, offset: int) -> None:
        """Let what the log has taken begin its way down, at the time at which the log took it."""
        topic, partition = place
        if subscription.next < offset + _READ_AHEAD:
            records = await self._inner.read(topic, subscription.next, partition=partition)
            now_s = self._now_s()
            for record in records:
                if record.offset < subscription.next:
                    continue  # another look at the same time was quicker
                taken_s = min(now_s, record.timestamp_ms / 1000 - self._opened_at)
                entry_s = max(subscription.asked_s, taken_s)
                subscription.arrivals.append(self._down.transfer(wire_size(record), entry_s))
                subscription.next = record.offset + 1
        subscription.advance(self._now_s())

    async def flush(self) -> None:
        """See :class:`Transport`."""
        self._check()
        if self._in_flight:
            await asyncio.wait(set(self._in_flight))
        await self._ask(self._inner.flush)

    async def commit(self, group: str, offsets: Mapping[str, int]) -> None:
        """See :class:`Transport`."""
        await self._inner.commit(group, offsets)

    async def aclose(self) -> None:
        """See :class:`Transport`; what is still on its way up then, is not appended."""
        self._closed.set()
        self._room.set()
        if self._in_flight:
            await asyncio.wait(set(self._in_flight), timeout=_CLOSE_S)
        self._gave_up.set()
        await self._inner.aclose()

    async def _ask(self, question: Callable[[], Awaitable[T]]) -> T:
        """A question to the log, and its answer."""
        self._check()
        await self._until(self._up.transfer(0, self._now_s()))
        answer = await question()
        await self._until(self._down.transfer(0, self._now_s()))
        return answer

    def _now_s(self) -> float:
        """Since the opening; by the wall clock, as the log's timestamps are."""
        return max(0.0, time() - self._opened_at)

    async def _until(self, at_s: float, *, unless: asyncio.Event | None = None) -> None:
        """Let time pass.

        Raises:
            TransportClosed: ``unless`` was set first; by default: this transport was closed.
        """
        event = self._closed if unless is None else unless
        left_s = at_s - self._now_s()
        if left_s > 0 and not event.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(left_s):
                    await event.wait()
        if event.is_set() and at_s > self._now_s():
            raise self._closed_error()

    def _check(self) -> None:
        if self._closed.is_set():
            raise self._closed_error()

    def _closed_error(self) -> TransportClosed:
        return TransportClosed("the way to the log was closed by this process")
