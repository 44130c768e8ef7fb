"""The end of a partition to which this process appends.

Appends wait in one queue. One batch at a time is on its way: several small appends together, or a
piece of a large one. The same bytes are sent again until the leader has answered for them, and it
knows a batch that it has already by the producer's identity and sequence numbers. So nothing is
written twice, the order is that of the calls, and nothing is ever given up and sent anew.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import chain
from time import monotonic
from typing import Any

from aiokafka.protocol.transaction import InitProducerIdRequest_v0

from slstream.errors import (
    RecordTooLarge,
    TransportBroken,
    TransportClosed,
    TransportError,
    TransportTimeout,
)
from slstream.transport.contract import Record
from slstream.transport.kafka.answers import (
    LOST_PRODUCER,
    NO_SUCH_TOPIC,
    DiskFailedError,
    NotYetError,
    check_answer,
    unknown_topic,
)
from slstream.transport.kafka.batches import (
    BATCH_BYTES,
    Producer,
    build_batch,
    framing_size,
    record_size,
)
from slstream.transport.kafka.cluster import FIRST_PAUSE_S, LONGEST_PAUSE_S, Cluster
from slstream.transport.kafka.connections import REQUEST_S
from slstream.transport.kafka.topic_settings import FRAMING_BYTES
from slstream.transport.kafka.topics import DescribedTopic, Topics
from slstream.transport.kafka.wire import Exactly, ProduceRequest

GATHER_BYTES = 1_048_576
"""Appends that are waiting together share a batch of up to this size."""

TAKE_OVER_S = 20.0
"""How long another replica may take to replace a leader whose disk failed. A broker that halts for
that is missed after ``broker.session.timeout.ms``, 9 s by default; then there is an election."""

_NO_TRANSACTION = (None, 2**31 - 1)


@dataclass(slots=True, kw_only=True, eq=False)
class Append:
    """What one call appends."""

    records: Sequence[Record]
    sizes: Sequence[int] = field(init=False)
    """Most that each takes within a batch."""
    largest: tuple[int, int] = field(init=False)
    """Size of the largest, as a topic's limit counts, and its index."""
    answer: asyncio.Future[int]
    """The offset of the first record, or why there is none. Done early when the caller has gone."""
    settled: asyncio.Future[None]
    """Done when the log has it, or never will."""
    asked_at: float = field(default_factory=monotonic)
    taken: int = 0
    """Records that are in a batch or in the log."""
    stored: int = 0
    """Records that are in the log."""
    first: int | None = None
    """Offset of the first record."""

    def __post_init__(self) -> None:
        bare = [record_size(record) for record in self.records]
        self.sizes = [
            size + framing_size(record) for size, record in zip(bare, self.records, strict=True)
        ]
        self.largest = max((size, -index) for index, size in enumerate(bare))

    def refuse(self, error: Exception) -> None:
        """Tell the caller that it is not, or not wholly, in the log."""
        if not self.answer.done():
            self.answer.set_exception(error)
        self._settle()

    def confirm(self) -> None:
        """Tell the caller that all of it is in the log."""
        if self.first is not None and not self.answer.done():
            self.answer.set_result(self.first)
        self._settle()

    def _settle(self) -> None:
        if not self.settled.done():
            self.settled.set_result(None)


@dataclass(slots=True, kw_only=True)
class _Batch:
    """What is on its way."""

    topic_id: bytes
    parts: list[tuple[Append, int]]
    """Whose records it holds, and how many of each."""
    records: list[Record]
    data: bytes


class PartitionWriter:
    """Appends to one partition, in the order of :meth:`put`."""

    def __init__(
        self, cluster: Cluster, topics: Topics, topic: str, partition: int, client_id: str
    ) -> None:
        """Nothing is asked yet."""
        self.place = f"{topic}[{partition}]"
        self.progress_at = monotonic()
        """When the log last took a batch."""
        self.why = "no answer"
        """What the last attempt came to, for messages."""
        self._cluster = cluster
        self._topics = topics
        self._topic = topic
        self._partition = partition
        self._connections = cluster.connections(client_id)
        self._queue: deque[Append] = deque()
        self._batch: _Batch | None = None
        self._following: _Batch | None = None
        """What is sent after that; built while the leader is busy with it."""
        self._target: DescribedTopic | None = None
        self._producer: Producer | None = None
        self._task: asyncio.Task[None] | None = None
        self._untold: dict[Append, TransportError] = {}
        """Refused, while their callers do not know yet; and the error for what would follow."""
        self._disk_failed_at: float | None = None
        """When the leader's disk failed, unless a batch was taken since."""

    @property
    def is_busy(self) -> bool:
        """Whether something waits or is on its way."""
        return bool(self._queue or self._batch or self._following)

    @property
    def last(self) -> Append | None:
        """What was put last, if it is not settled."""
        if self._queue:
            return self._queue[-1]
        newest = self._following or self._batch
        return newest.parts[-1][0] if newest is not None else None

    @property
    def awaited(self) -> Append | None:
        """What was put last of that for which somebody waits."""
        on_way = (part for batch in (self._following, self._batch) if batch for part in batch.parts)
        for append in (*reversed(self._queue), *(append for append, _ in on_way)):
            if not append.answer.done():
                return append
        return None

    def put(self, append: Append) -> None:
        """Queue it; the order of calls is the order in the log.

        It is refused at once when its caller does not know yet that one before it is missing.
        """
        if self._untold:
            self._refuse_one(append, next(iter(self._untold.values())))
            return
        self._queue.append(append)
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._run())

    def told(self, append: Append) -> None:
        """Its caller knows what became of it, and what it appends from now on counts."""
        self._untold.pop(append, None)

    def time_out(self, append: Append, error: TransportTimeout) -> None:
        """Give it up, with what would land behind it."""
        if append.taken == 0 and append in self._queue:
            while self._queue[-1] is not append:
                self._refuse_one(self._queue.pop(), error)
        self.give_up(append)

    def give_up(self, append: Append) -> None:
        """Its caller has gone: keep no record of it that is not on its way already.

        The head of the queue is left, as it may be looked at; it is dropped when its turn comes.
        """
        append.answer.cancel()
        if append.taken == 0 and append in self._queue and append is not self._queue[0]:
            self._queue.remove(append)
            append.refuse(_no_caller())

    async def close(self, error: Exception) -> None:
        """End at once, and tell all who wait."""
        if self._task is not None:
            self._task.cancel()
        parts = [part for batch in (self._batch, self._following) if batch for part in batch.parts]
        for append in (*(append for append, _ in parts), *self._queue):
            append.refuse(error)
        self._batch = self._following = None
        self._queue.clear()
        await self._connections.close()

    async def _run(self) -> None:
        pause_s = FIRST_PAUSE_S
        while self.is_busy:
            try:
                if self._batch is None:
                    self._batch, self._following = self._following, None
                if self._batch is None:
                    self._batch = await self._next_batch()
                if self._batch is not None:
                    self._confirm(self._batch, await self._send(self._batch))
                pause_s = FIRST_PAUSE_S
            except NotYetError as error:
                self.why, self._target = str(error), None
                if isinstance(error, DiskFailedError) and self._disk_failed_at is None:
                    self._disk_failed_at = monotonic()
                if self._disk_is_gone:
                    self._refuse(self._disk_error())
                    continue
                with suppress(TransportClosed):  # Then there is nothing left to do either.
                    await self._cluster.pause(pause_s)
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
            except TransportClosed:
                return  # Whoever closes tells those who wait.
            except RecordTooLarge as error:
                await self._take_back(error)
            except TransportError as error:
                self._refuse(error)
            except Exception as error:  # noqa: BLE001 - a bug must not leave callers waiting
                self._refuse(TransportBroken(f"{self.place}: {type(error).__name__}: {error}"))

    async def _next_batch(self) -> _Batch | None:
        """Take from the queue what goes together; nothing, when nobody waits for its head."""
        head = self._queue[0]
        if head.taken == 0 and head.answer.done():
            self._queue.popleft().refuse(_no_caller())
            return None
        target = self._target or await self._look()
        if self._is_too_large(head, target.config.max_record_bytes):
            # The limit may have been raised since.
            target = await self._look()
            if self._is_too_large(head, target.config.max_record_bytes):
                self._refuse(self._too_large(head, target.config.max_record_bytes))
                return None
        if self._producer is None:
            self._producer = await self._new_producer()
        return self._build(target, self._producer)

    def _build_following(self) -> None:
        """Build what is sent after the batch on its way, if it is worth it and nothing is unclear.

        A full batch takes as long to build as it takes the leader to store it. What is not full may
        yet be joined by more.
        """
        batch, target, producer = self._batch, self._target, self._producer
        if self._following or not (batch and target and producer and self._queue):
            return
        head, size = self._queue[0], 0
        if head.taken == 0 and (
            head.answer.done() or self._is_too_large(head, target.config.max_record_bytes)
        ):
            return
        for each in chain.from_iterable(append.sizes[append.taken :] for append in self._queue):
            size += each
            if size > GATHER_BYTES // 2:
                then = replace(producer)
                then.advance(len(batch.records))
                self._following = self._build(target, then)
                return

    def _build(self, target: DescribedTopic, producer: Producer) -> _Batch:
        parts, records = self._gather(target.config.max_record_bytes + FRAMING_BYTES)
        data = build_batch(records, producer)
        return _Batch(topic_id=target.view.id, parts=parts, records=records, data=data)

    def _put_back(self, batch: _Batch | None) -> None:
        """Let records be gathered again, that no leader has taken."""
        for append, count in reversed(batch.parts if batch else []):
            append.taken -= count
            if not self._queue or self._queue[0] is not append:
                self._queue.appendleft(append)

    def _gather(self, limit: int) -> tuple[list[tuple[Append, int]], list[Record]]:
        """Take records of the head, and of what follows it if there is room for all of that."""
        parts: list[tuple[Append, int]] = []
        taken: list[Record] = []
        size = BATCH_BYTES
        while self._queue:
            append = self._queue[0]
            if parts and (
                size + sum(append.sizes) > min(limit, GATHER_BYTES)
                or append.answer.done()
                or self._is_too_large(append, limit - FRAMING_BYTES)
            ):
                break
            begin = append.taken
            for each in append.sizes[begin:]:
                if taken and size + each > limit:
                    break
                size += each
                taken.append(append.records[append.taken])
                append.taken += 1
            parts.append((append, append.taken - begin))
            if append.taken < len(append.records):
                break
            self._queue.popleft()
        return parts, taken

    def _is_too_large(self, append: Append, limit: int) -> bool:
        return append.taken == 0 and append.largest[0] > limit

    def _too_large(self, append: Append, limit: int) -> RecordTooLarge:
        size, index = append.largest
        takes = (
            f"{limit}, as {FRAMING_BYTES} of its max.message.bytes are for framing"
            if limit
            else f"none, as {FRAMING_BYTES} of its max.message.bytes are for framing: all, or more"
        )
        return RecordTooLarge(
            f"{self.place}: record {-index} of this append has {size} bytes of key, headers and "
            f"value; the topic takes {takes}; raise max.message.bytes (`slstream topology apply` "
            "sets what parties want), or send smaller records"
        )

    async def _send(self, batch: _Batch) -> int:
        """Send the batch once; gives the offset of its first record."""
        if len(batch.data) > GATHER_BYTES:
            await asyncio.sleep(0)  # Sending it keeps the event loop as long as building it did.
        target = self._target or await self._look()
        if target.view.id != batch.topic_id:
            raise unknown_topic(f"{self.place} any more: it was deleted and created again")
        if self._producer is None:
            self._producer = await self._new_producer()
            batch.data = build_batch(batch.records, self._producer)
        request = ProduceRequest(self._topic, self._partition, int(REQUEST_S * 500), batch.data)
        leader = target.view.leader_of(self._partition)
        sending = asyncio.create_task(self._connections.send(leader, Exactly(request)))
        try:
            await asyncio.sleep(0)
            self._build_following()
            ((_, ((_, code, offset, *_),)),) = (await sending).topics
        finally:
            sending.cancel()
        if code in NO_SUCH_TOPIC:
            raise NotYetError("the broker says that there is no such topic")
        if code in LOST_PRODUCER:
            self._forget_producer()
            raise NotYetError("the broker has lost what it knew of this producer")
        check_answer(code, "WRITE", self.place)
        return int(offset)

    @property
    def _disk_is_gone(self) -> bool:
        failed_at = self._disk_failed_at
        return failed_at is not None and monotonic() - failed_at >= TAKE_OVER_S

    def _disk_error(self) -> TransportBroken:
        return TransportBroken(
            f"append to {self.place}: the disk of the partition's leader failed or is full, and no "
            "other replica takes over; what was sent last may or may not be in the log. Make room "
            "on the broker's disk and start the broker again, then start this again"
        )

    async def _look(self) -> DescribedTopic:
        target = await self._topics.describe(self._topic)
        target.view.partition(self._partition)
        self._target = target
        return target

    async def _new_producer(self) -> Producer:
        answer: Any = await self._cluster.ask(Exactly(InitProducerIdRequest_v0(*_NO_TRANSACTION)))
        check_answer(answer.error_code, "IDEMPOTENT_WRITE", self.place)
        return Producer(id=answer.producer_id, epoch=answer.producer_epoch)

    def _forget_producer(self) -> None:
        """Go on as another one, also with what was built for this one and not sent."""
        following, self._following, self._producer = self._following, None, None
        self._put_back(following)

    def _confirm(self, batch: _Batch, offset: int) -> None:
        self._batch = self._disk_failed_at = None
        self.progress_at = monotonic()
        if self._producer is not None:
            self._producer.advance(len(batch.records))
        for append, count in batch.parts:
            if append.first is None:
                append.first = offset
            offset += count
            append.stored += count
            if append.stored == len(append.records):
                append.confirm()

    async def _take_back(self, error: RecordTooLarge) -> None:
        """The broker takes less than was known: send smaller batches, if it now says so."""
        batch, known = self._batch, self._target
        lower = False
        with suppress(NotYetError, TransportError):
            limit = (await self._look()).config.max_record_bytes
            lower = known is not None and limit < known.config.max_record_bytes
        if batch is None or not lower:
            self._refuse(error)
            return
        self._forget_producer()
        self._batch = None
        self._put_back(batch)

    def _refuse(self, error: TransportError) -> None:
        """Refuse all that is on its way, and all behind it: it would land where a record misses."""
        # A leader may or may not count what it has refused.
        self._forget_producer()
        self._target = None
        batch, self._batch = self._batch, None
        concerned = [append for append, _ in batch.parts] if batch else list(self._queue)[:1]
        for append in concerned:
            self._refuse_one(append, error)
        for append in self._queue:
            self._refuse_one(append, self._behind(error))
        self._queue.clear()

    def _refuse_one(self, append: Append, error: TransportError) -> None:
        if not append.answer.done():
            self._untold[append] = self._behind(error)
        append.refuse(error)

    def _behind(self, error: TransportError) -> TransportError:
        """For an append that nothing is wrong with, but that it would follow a missing one."""
        if not isinstance(error, RecordTooLarge):
            return error
        return TransportError(f"not appended, as one before it was refused: {error}")


def _no_caller() -> TransportError:
    return TransportError("its caller has gone")  # Nobody is told.
