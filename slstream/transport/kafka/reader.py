"""The end of a partition from which this process reads.

Two connections: one is asked for what is there now, the other waits at the leader until there is
more (a long poll). What the second brings is kept, up to :data:`READ_AHEAD_BYTES`, until it is
read: so a wait that has ended, and the read that follows it, cost one round trip together, and a
read never waits for a poll. Both ask by the topic's id, so that records of a topic that was deleted
are never taken for those of another one with its name.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from time import monotonic
from typing import Any

from slstream.errors import OffsetOutOfRange, TransportBroken, TransportError, UnknownTopic
from slstream.transport.contract import StoredRecord
from slstream.transport.kafka.answers import (
    NO_SUCH_TOPIC,
    OFFSET_OUT_OF_RANGE,
    NotYetError,
    check_answer,
    unknown_topic,
)
from slstream.transport.kafka.batches import parse_batches
from slstream.transport.kafka.cluster import FIRST_PAUSE_S, LONGEST_PAUSE_S, Cluster, TopicView
from slstream.transport.kafka.connections import Connections
from slstream.transport.kafka.wire import (
    EARLIEST,
    LATEST,
    NO_EPOCH,
    Exactly,
    fetch_request,
    list_offsets_request,
)

READ_AHEAD_BYTES = 8_388_608
"""What is kept of records that nobody has read yet; one record more when they are large."""
FETCH_BYTES = 2_097_152
"""Of one answer, unless a single batch is larger: parsing it takes a few milliseconds."""
POLL_S = 0.5
"""How long the leader is asked to wait for more."""
INTEREST_S = 5.0
"""How long a reader that has come to the end is taken to come back for what comes next."""
TRUST_S = 2.0
"""How long records that were read ahead are handed out without asking whether the topic is still
the same."""

_FIND_S = 5.0
"""How long a short wait may take to find out whether there is such a topic, or record."""
_LOOK_UP_S = 1.0
"""How often a wait sees whether the leader still answers."""
_IDLE_S = 5.0
"""After which an earlier failure to reach the leader says nothing about now."""

_RECORD_COST = 300
"""Counted for each record that is kept, beside its content."""


class _OutOfRangeError(Exception):
    """There is no record at this offset, and it is not the end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fetched:
    records: list[StoredRecord]
    next_offset: int
    """After all that came."""
    end: int
    """The end of the partition when the leader answered."""


@dataclass(slots=True, kw_only=True, eq=False)
class _Wait:
    offset: int
    future: asyncio.Future[bool]


class PartitionReader:
    """Reads one partition, and waits for more of it."""

    def __init__(self, cluster: Cluster, topic: str, partition: int, client_id: str) -> None:
        """Nothing is asked yet."""
        self.place = f"{topic}[{partition}]"
        self._cluster = cluster
        self._topic = topic
        self._partition = partition
        self._now = cluster.connections(client_id)
        self._later = cluster.connections(client_id)
        self._view: TopicView | None = None
        self._is_stale = False
        self._checked_epoch = NO_EPOCH
        """In which the leader's end is known to hold all that was ever acknowledged."""
        self._seen_at = 0.0
        """When an answer last showed that the topic is still the same."""
        self._kept: deque[StoredRecord] = deque()
        self._kept_bytes = 0
        self._next: int | None = None
        """Offset after the records that are kept, or of the next read."""
        self._end: int | None = None
        """The end of the partition, as far as it is known."""
        self._waits: list[_Wait] = []
        self._interest_until = 0.0
        self._poll: asyncio.Task[None] | None = None
        self._polling_at: int | None = None
        self._arrived = asyncio.Event()
        """Of what the poll that is under way brings."""
        self._idle_since = -math.inf
        """When polling was last given up."""
        self._unanswered_since: float | None = None
        self._why = "no answer"
        self._calls = 0
        self._ended: TransportError | None = None
        """Why nothing comes any more."""

    @property
    def is_busy(self) -> bool:
        """Whether somebody uses it at the moment."""
        return bool(self._calls)

    def __enter__(self) -> None:
        self._calls += 1

    def __exit__(self, *_: object) -> None:
        self._calls -= 1

    async def read(self, offset: int, max_records: int, max_bytes: int) -> list[StoredRecord]:
        """See :meth:`Transport.read`."""
        if monotonic() - self._seen_at < TRUST_S:
            found = self._take(offset, max_records, max_bytes)
            if found:
                return found
        return await self._cluster.insist(
            f"read {self.place} at offset {offset}",
            lambda: self._read(offset, max_records, max_bytes),
        )

    async def wait(self, offset: int, timeout_s: float | None) -> bool:
        """See :meth:`Transport.wait`."""
        if self._end is not None and self._end > offset:
            return True
        if timeout_s is not None and timeout_s <= 0:
            return await self._is_there(offset)
        if self._view is None and not await self._find(offset, timeout_s):
            return False
        deadline = monotonic() + (math.inf if timeout_s is None else timeout_s)
        wait = _Wait(offset=offset, future=asyncio.get_running_loop().create_future())
        self._waits.append(wait)
        if self._next is None and self._end is None:
            self._next = offset
        self._follow()
        try:
            while (left_s := deadline - monotonic()) > 0:
                await asyncio.wait({wait.future}, timeout=min(left_s, _LOOK_UP_S))
                if wait.future.done():
                    return wait.future.result()
                self._raise_if_stuck(offset)
            return False
        finally:
            self._waits.remove(wait)

    async def start_offset(self) -> int:
        """See :meth:`Transport.start_offset`."""
        what = f"find the first offset of {self.place}"
        return await self._cluster.insist(what, lambda: self._offset_at(EARLIEST))

    async def end_offset(self) -> int:
        """See :meth:`Transport.end_offset`."""
        what = f"find the end of {self.place}"
        return await self._cluster.insist(what, lambda: self._offset_at(LATEST))

    async def close(self, error: TransportError) -> None:
        """End at once, and tell all who wait."""
        self._ended = error
        if self._poll is not None:
            self._poll.cancel()
        self._fail_waits(error)
        await self._now.close()
        await self._later.close()

    # What is there now.

    async def _is_there(self, offset: int) -> bool:
        """Whether a record is there now, as far as a broker can be asked."""
        try:
            async with asyncio.timeout(_FIND_S):
                return await self.end_offset() > offset
        except TimeoutError:
            return False

    async def _find(self, offset: int, timeout_s: float | None) -> bool:
        """Look the topic up for the first time; ``False`` when a short wait is over before."""
        limit_s = None if timeout_s is None else max(timeout_s, _FIND_S)
        try:
            async with asyncio.timeout(limit_s):
                await self._cluster.insist(self._waiting(offset), self._known)
        except TimeoutError:
            return False
        return True

    async def _read(self, offset: int, max_records: int, max_bytes: int) -> list[StoredRecord]:
        if monotonic() - self._seen_at >= TRUST_S and self._kept:
            await self._look()
        found = self._take(offset, max_records, max_bytes)
        if not found and self._is_coming(offset):
            # Not wait_for(): in Python 3.11 it loses a cancellation that comes with the result.
            with suppress(TimeoutError):
                async with asyncio.timeout(POLL_S):
                    await self._arrived.wait()
            found = self._take(offset, max_records, max_bytes)
        if found:
            return found
        try:
            fetched = await self._fetch(
                self._now, offset, max_wait_s=0, max_bytes=max(1, min(max_bytes, FETCH_BYTES))
            )
        except _OutOfRangeError:
            raise await self._out_of_range(offset) from None
        if not fetched.records:
            return await self._nothing(offset, fetched)
        if (first := fetched.records[0].offset) > offset:
            raise OffsetOutOfRange(
                f"{self.place}: expected the record at offset {offset}, found the next one at "
                f"{first}: those between were removed, or are another program's; a log's topics "
                "need cleanup.policy=delete, and nobody else may write to them"
            )
        self._keep_only(fetched)
        return self._take(offset, max_records, max_bytes)

    async def _nothing(self, offset: int, fetched: _Fetched) -> list[StoredRecord]:
        """Make sure that there is nothing at an offset."""
        if fetched.next_offset > offset:
            raise NotYetError("a batch of another program holds no record")
        view = await self._known()
        epoch = view.partition(self._partition).epoch
        if fetched.end == offset and epoch == self._checked_epoch:
            self._move_to(offset)
            return []
        # A leader that has just taken over may not know yet of the last records that were
        # acknowledged. When asked for its end it says so.
        end = await self._offset_at(LATEST)
        if offset > end:
            raise await self._out_of_range(offset)
        if offset < end:
            raise NotYetError("the leader does not show its last records yet")
        self._checked_epoch = epoch
        self._move_to(offset)
        return []

    def _move_to(self, offset: int) -> None:
        if self._next != offset:
            self._kept.clear()
            self._kept_bytes = 0
            self._next = offset

    def _keep_only(self, fetched: _Fetched) -> None:
        self._kept = deque(fetched.records)
        self._kept_bytes = sum(map(_cost, fetched.records))
        self._next = fetched.next_offset

    def _take(self, offset: int, max_records: int, max_bytes: int) -> list[StoredRecord]:
        """Hand out records that are kept; those before them are used up."""
        kept = self._kept
        if not kept or not kept[0].offset <= offset <= kept[-1].offset:
            return []
        found: list[StoredRecord] = []
        size = 0
        while kept and len(found) < max_records:
            record = kept[0]
            if record.offset >= offset:
                size += _size(record)
                if found and size > max_bytes:
                    break
                found.append(record)
            kept.popleft()
            self._kept_bytes -= _cost(record)
        self._interest_until = monotonic() + INTEREST_S
        self._follow()
        return found

    def _is_coming(self, offset: int) -> bool:
        """Whether the poll that is under way will bring a record at once."""
        is_polling = self._poll is not None and not self._poll.done()
        return is_polling and self._polling_at == offset and (self._end or 0) > offset

    async def _out_of_range(self, offset: int) -> OffsetOutOfRange:
        start, end = await self._offset_at(EARLIEST), await self._offset_at(LATEST)
        if start <= offset <= end:
            raise NotYetError("the partition has just changed")
        return OffsetOutOfRange(
            f"{self.place}: expected an offset in {start} to {end}, found {offset}"
            + ("; older records were removed by the topic's retention" if offset < start else "")
        )

    async def _offset_at(self, timestamp: int) -> int:
        view = await self._known()
        epoch = view.partition(self._partition).epoch
        request = list_offsets_request(self._topic, self._partition, epoch, timestamp)
        answer = await self._ask(self._now, view, request)
        ((_, ((_, code, _, offset, _),)),) = answer.topics
        await self._check(code)
        if timestamp == LATEST:
            self._note_end(offset)
        return int(offset)

    # What comes later.

    def _follow(self) -> None:
        """See to it that a poll is under way when it is wanted."""
        if self._ended is not None:
            self._fail_waits(self._ended)  # Of who was about to wait when the end came.
            return
        if (self._poll is None or self._poll.done()) and self._wanted() is not None:
            if monotonic() - self._idle_since > _IDLE_S:
                self._unanswered_since = None
            self._poll = asyncio.get_running_loop().create_task(self._run())

    def _wanted(self) -> tuple[int, bool] | None:
        """Where to poll next, and whether to keep what comes, or only to see the end move."""
        is_awaited = any(not wait.future.done() for wait in self._waits)
        interest = is_awaited or monotonic() < self._interest_until
        has_room = self._kept_bytes + FETCH_BYTES <= READ_AHEAD_BYTES
        if self._next is not None and has_room and interest:
            return self._next, True
        return (self._end, False) if is_awaited and self._end is not None else None

    async def _run(self) -> None:
        pause_s = FIRST_PAUSE_S
        while (wanted := self._wanted()) is not None:
            offset, keep = wanted
            self._polling_at, self._arrived = offset if keep else None, asyncio.Event()
            if self._unanswered_since is None:
                self._unanswered_since = monotonic()
            try:
                await self._poll_once(offset, keep=keep)
                pause_s = FIRST_PAUSE_S
            except NotYetError as error:
                self._why = str(error)
                with suppress(TransportError):
                    await self._cluster.pause(pause_s)
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
            except TransportError as error:
                self._fail_waits(error)
                self._interest_until = 0.0
            except Exception as error:  # noqa: BLE001 - a bug must not leave callers waiting
                self._fail_waits(TransportBroken(f"{self.place}: {type(error).__name__}: {error}"))
                self._interest_until = 0.0
            finally:
                self._arrived.set()
        self._idle_since = monotonic()

    async def _poll_once(self, offset: int, *, keep: bool) -> None:
        max_bytes = FETCH_BYTES if keep else 1  # At least one batch comes.
        try:
            fetched = await self._fetch(self._later, offset, max_wait_s=POLL_S, max_bytes=max_bytes)
        except _OutOfRangeError:
            await self._come_back(offset)
            return
        if keep and fetched.next_offset > offset == self._next:
            self._kept += fetched.records
            self._kept_bytes += sum(map(_cost, fetched.records))
            self._next = fetched.next_offset
            self._wake()

    async def _come_back(self, offset: int) -> None:
        """The partition does not hold the offset of a poll; see what it does hold."""
        start, end = await self._offset_at(EARLIEST), await self._offset_at(LATEST)
        if self._next == offset:
            self._next = None
        for wait in self._waits:
            if wait.offset < start and not wait.future.done():
                wait.future.set_result(True)  # Reading says what became of it.
        self._end = end

    def _note_end(self, end: int) -> None:
        self._end = end
        self._wake()

    def _wake(self) -> None:
        for wait in self._waits:
            if self._end is not None and wait.offset < self._end and not wait.future.done():
                wait.future.set_result(True)

    def _fail_waits(self, error: TransportError) -> None:
        for wait in self._waits:
            if not wait.future.done():
                wait.future.set_exception(type(error)(*error.args))

    def _raise_if_stuck(self, offset: int) -> None:
        since = self._unanswered_since
        if since is not None and monotonic() - since >= self._cluster.stuck_s:
            raise self._cluster.timeout(self._waiting(offset), self._why)

    def _waiting(self, offset: int) -> str:
        return f"wait for {self.place} at offset {offset}"

    # Both.

    async def _fetch(
        self, connections: Connections, offset: int, *, max_wait_s: float, max_bytes: int
    ) -> _Fetched:
        if offset < 0:
            raise _OutOfRangeError
        view = await self._known()
        place = view.partition(self._partition)
        request = fetch_request(
            view.id,
            self._partition,
            place.epoch,
            offset,
            max_wait_ms=int(max_wait_s * 1000),
            max_bytes=max_bytes,
        )
        answer = await self._ask(connections, view, request)
        await self._check(answer.error_code)
        ((_, ((_, code, end, _, _, _, _, data, _),), _),) = answer.topics
        if code == OFFSET_OUT_OF_RANGE:
            self._unanswered_since = None
            raise _OutOfRangeError
        await self._check(code)
        if self._view is not view:
            raise NotYetError("the topic was looked up again meanwhile")
        self._seen_at = monotonic()
        self._note_end(end)
        records, next_offset = await parse_batches(
            self._topic, self._partition, data or b"", offset
        )
        return _Fetched(records=records, next_offset=next_offset, end=end)

    async def _ask(self, connections: Connections, view: TopicView, request: Exactly) -> Any:
        try:
            return await connections.send(view.leader_of(self._partition), request)
        except NotYetError:
            self._is_stale = True  # Another broker may lead by now.
            raise

    async def _check(self, code: int) -> None:
        """Raise what an answer's code means; look the topic up again when it may have changed."""
        if code in NO_SUCH_TOPIC:
            await self._look()
            raise NotYetError("the broker says that there is no such topic")
        try:
            check_answer(code, "READ", self.place)
        except NotYetError:
            await self._look()
            raise
        self._unanswered_since = None

    async def _known(self) -> TopicView:
        return await self._look() if self._view is None or self._is_stale else self._view

    async def _look(self) -> TopicView:
        """Look the topic up. What was kept of another one of this name is forgotten."""
        before = self._view
        try:
            view = await self._cluster.topic(self._topic)
            view.partition(self._partition)
        except UnknownTopic as error:
            self._forget(error)
            raise
        if before is not None and before.id != view.id:
            self._forget(unknown_topic(f"{self.place} any more: it was deleted and created again"))
        self._view, self._is_stale = view, False
        self._seen_at = monotonic()
        return view

    def _forget(self, error: UnknownTopic) -> None:
        self._view = self._next = self._end = None
        self._kept.clear()
        self._kept_bytes = 0
        self._interest_until = 0.0
        self._fail_waits(error)


def _size(record: StoredRecord) -> int:
    headers = sum(len(name) + len(value) for name, value in record.headers)
    return len(record.value) + len(record.key or b"") + headers


def _cost(record: StoredRecord) -> int:
    return _size(record) + _RECORD_COST
