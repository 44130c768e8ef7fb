"""The embedded transport: what a process holds to use a log in a directory."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any, Self, TypeVar, cast

from slstream.errors import TransportBroken, TransportClosed, TransportError
from slstream.transport.contract import Durability, Record, StoredRecord, TopicConfig, Transport
from slstream.transport.embedded import recovery
from slstream.transport.embedded.admission import Admission, Append
from slstream.transport.embedded.checkpointer import Checkpointer
from slstream.transport.embedded.forcing import LogForcer
from slstream.transport.embedded.index import encode_headers
from slstream.transport.embedded.layout import Layout
from slstream.transport.embedded.lock import Patience, stuck
from slstream.transport.embedded.offsets import (
    AppendRequest,
    GroupCommit,
    PreparedRecord,
)
from slstream.transport.embedded.reader import LogReader
from slstream.transport.embedded.waiting import Waiters
from slstream.transport.embedded.wake import WakeSender
from slstream.transport.embedded.worker import Worker
from slstream.transport.embedded.writer import LogWriter
from slstream.transport.topics import check_topic

_CLOSE_TIMEOUT_S = 4.0

STUCK_S = 60.0
"""How long a write may take: longer than any disk, but not for ever, should another process that
uses the log be stopped while it holds the write lock."""

_RECORD_OVERHEAD = 256

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Job:
    """Something for a worker thread to do, and where its result goes."""

    run: Callable[[], object]
    future: asyncio.Future[object] | None


_Item = _Job | Append


class EmbeddedTransport(Transport):
    """One process's handle on an embedded log.

    It has a thread that writes, one that reads, one that forces the log to the disk, and one for
    SQLite's checkpoints. What takes only
    microseconds is done on the event loop: looks at the index (offsets, topics), and reads of a
    few records that are in the page cache, as a record that has just been appended always is.

    An object belongs to the process and the event loop that opened it; a forked child must open
    its own.
    """

    def __init__(self, layout: Layout, durability: Durability, *, read_only: bool) -> None:
        """Use :meth:`open`, which also creates and recovers the log."""
        self._layout = layout
        self._read_only = read_only
        self._pid = os.getpid()
        self._loop = asyncio.get_running_loop()
        self._broken: str | None = None
        self._closed = False
        self._closing: asyncio.Task[None] | None = None
        self._jobs: set[asyncio.Future[object]] = set()
        self._near = LogReader(layout, read_only=read_only)
        self._index = self._near.index
        self._waiters = Waiters(layout.wake, self._end_of)
        self._reader = LogReader(layout, read_only=read_only)
        self._workers: list[Worker[_Item]] = []
        if not read_only:
            self._start_writing(durability)
        self._reads = self._start("slstream-log-reader", self._do_items, self._reader.close)

    def _start_writing(self, durability: Durability) -> None:
        checkpointer = Checkpointer(self._layout)
        sender = self._sender = WakeSender(self._layout.wake)
        checkpoint = _Job(run=checkpointer.checkpoint, future=None)
        writer = self._writer = LogWriter(
            self._layout, durability, request_checkpoint=lambda: checkpoints.put(checkpoint)
        )

        def finish() -> None:
            writer.close()
            sender.close()

        self._writes = self._start("slstream-log-writer", self._do_writes, finish)
        self._admission = Admission(self._writes.put)
        self._forcer = LogForcer(self._layout)
        self._forces = self._start("slstream-log-forcer", self._do_items, self._forcer.close)
        checkpoints = self._start("slstream-log-checkpoint", self._do_items, checkpointer.close)

    def _start(
        self, name: str, handle: Callable[[list[_Item]], None], finish: Callable[[], None]
    ) -> Worker[_Item]:
        worker = Worker(name, handle, finish=finish)
        self._workers.append(worker)
        return worker

    @classmethod
    async def open(
        cls,
        path: Path,
        *,
        durability: Durability = Durability.CHECKPOINT,
        read_only: bool = False,
    ) -> Self:
        """Open the log in a directory of a local file system.

        Args:
            path: the directory; created, with parents, unless ``read_only``.
            durability: when an append counts as sent.
            read_only: for monitors: nothing is created, recovered or appended.

        Raises:
            TransportError: no log is there (``read_only``), or one of another format.
            TransportTimeout: another process holds the log up.
            TransportBroken: the directory cannot be read or written.
        """
        layout = Layout(Path(os.path.abspath(path)))  # noqa: ASYNC240 - no file is touched
        patience = Patience(STUCK_S)
        try:
            await asyncio.to_thread(_prepare, layout, read_only, patience)
            return cls(layout, durability, read_only=read_only)
        except (OSError, sqlite3.Error) as error:
            raise TransportBroken(f"cannot open the log {path}: {error}") from error
        finally:
            patience.gone.set()

    async def create_topic(self, topic: str, config: TopicConfig | None = None) -> None:
        """See :class:`Transport`."""
        config = config or TopicConfig()
        self._check_writable()
        check_topic(topic, config)
        await self._do(self._writes, partial(self._writer.create_topic, topic, config))

    async def delete_topic(self, topic: str) -> None:
        """See :class:`Transport`."""
        self._check_writable()
        await self._do(self._writes, partial(self._writer.delete_topic, topic))

    async def topics(self, prefix: str = "") -> Sequence[str]:
        """See :class:`Transport`."""
        with self._look():
            return self._index.topics(prefix)

    async def topic_config(self, topic: str) -> TopicConfig:
        """See :class:`Transport`."""
        with self._look():
            return self._index.topic(topic)

    async def append(self, topic: str, records: Sequence[Record], *, partition: int = 0) -> int:
        """See :class:`Transport`."""
        self._check_writable()
        if not records:
            raise ValueError(f"append to {topic}[{partition}]: expected at least one record")
        prepared = [_prepare_record(record) for record in records]
        append = Append(
            request=AppendRequest(topic=topic, partition=partition, records=prepared),
            size=sum(record.size + _RECORD_OVERHEAD for record in prepared),
            future=self._loop.create_future(),
        )
        self._admission.submit(append)
        with self._deadline(append.future, f"append to {topic}[{partition}]"):
            return await append.future

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
        if max_records < 1:
            raise ValueError(f"read: expected max_records of at least 1, found {max_records}")
        place = (topic, partition, offset, max_records, max_bytes)
        with self._look():
            records = self._near.read_now(*place)
        if records is None:
            records = await self._do(self._reads, partial(self._reader.read, *place))
        return records

    async def start_offset(self, topic: str, *, partition: int = 0) -> int:
        """See :class:`Transport`."""
        with self._look():
            return self._index.partition(topic, partition).start

    async def end_offset(self, topic: str, *, partition: int = 0) -> int:
        """See :class:`Transport`."""
        with self._look():
            return self._index.partition(topic, partition).end

    async def wait(
        self, topic: str, offset: int, *, partition: int = 0, timeout_s: float | None = None
    ) -> bool:
        """See :class:`Transport`."""
        with self._look():
            found = self._index.partition(topic, partition)
        if found.end > offset:
            return True
        return await self._waiters.wait(f"{topic}[{partition}]", found.id, offset, timeout_s)

    async def flush(self) -> None:
        """See :class:`Transport`; also forces what other processes have appended so far."""
        self._check_writable()
        forced = await self._do(self._forces, self._forcer.force)
        self._writes.put(_Job(run=partial(self._writer.let_go, forced), future=None))

    async def enforce_retention(self) -> None:
        """Remove now what the topics' retention settings allow to remove.

        Happens by itself about once a second while this object appends.
        """
        self._check_writable()
        await self._do(self._writes, self._writer.retire)

    async def aclose(self) -> None:
        """See :class:`Transport`."""
        if os.getpid() != self._pid:
            return  # The threads and locks stayed with the parent.
        if self._closing is None:
            self._closing = self._loop.create_task(self._close())
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        # 1. Nothing new comes in, and who waits for others is told.
        self._closed = True
        self._waiters.fail(self._closed_error)
        if not self._read_only:
            self._admission.let_all_through()
        # 2. Each thread finishes what was asked of it: appends first.
        try:
            async with asyncio.timeout(_CLOSE_TIMEOUT_S):
                for worker in self._workers:  # The writer is the first.
                    await worker.stop()
        except TimeoutError:
            # A disk or lock that hangs; the threads are daemons and end with the process.
            self._break(f"the disk did not finish within {_CLOSE_TIMEOUT_S:g} s of closing")
        finally:
            # 3. What the event loop itself holds, also when its own end cuts this short.
            self._waiters.close()
            self._near.close()

    def _check(self) -> None:
        if self._closed:
            raise self._closed_error()
        if self._broken is not None:
            raise self._broken_error()
        if os.getpid() != self._pid:
            raise TransportClosed(
                f"the log {self._layout.directory} was opened in process {self._pid}; a forked "
                f"process must open it anew"
            )

    def _check_writable(self) -> None:
        self._check()
        if self._read_only:
            raise TransportError(f"the log {self._layout.directory} was opened for reading only")

    def _closed_error(self) -> TransportClosed:
        return TransportClosed(f"the log {self._layout.directory} was closed by this process")

    def _broken_error(self) -> TransportBroken:
        return TransportBroken(self._broken)

    @contextlib.contextmanager
    def _look(self) -> Iterator[None]:
        """A short read of the index on the event loop."""
        self._check()
        try:
            yield
        except (sqlite3.Error, TransportBroken) as error:
            self._break(str(error))
            raise self._broken_error() from error

    def _end_of(self, partition: int) -> int | None:
        with self._look():
            return self._index.end(partition)

    async def _do(self, worker: Worker[_Item], run: Callable[[], T]) -> T:
        future: asyncio.Future[object] = self._loop.create_future()
        self._jobs.add(future)
        worker.put(_Job(run=run, future=future))
        try:
            with self._deadline(future, "use the log"):
                return cast("T", await future)
        finally:
            self._jobs.discard(future)

    @contextlib.contextmanager
    def _deadline(self, future: asyncio.Future[Any], what: str) -> Iterator[None]:
        """Fail a future that takes longer than :data:`STUCK_S`; what it waits for goes on."""

        def give_up() -> None:
            _answer(future, stuck(what, STUCK_S, self._layout.write_lock))

        timer = self._loop.call_later(STUCK_S, give_up)
        try:
            yield
        finally:
            timer.cancel()

    def _call_loop(self, callback: Callable[[], object]) -> None:
        """Run a callback on the event loop, from any thread; dropped when the loop is gone."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(callback)

    # In the worker threads.

    def _do_items(self, items: list[_Item]) -> None:
        """Handle what is queued: one transaction for all appends between two jobs."""
        for kind, group in groupby(items, key=type):
            if kind is Append:
                self._commit_group(cast("list[Append]", list(group)))
            else:
                for job in cast("list[_Job]", list(group)):
                    outcome = self._attempt(job.run)
                    if job.future is not None:
                        self._call_loop(partial(_answer, job.future, outcome))

    def _do_writes(self, items: list[_Item]) -> None:
        self._do_items(items)
        self._attempt(self._writer.retire_now_and_then)
        # Topics may have come or gone; nobody waits for a job without a future.
        if any(isinstance(item, _Job) and item.future is not None for item in items):
            self._sender.wake_all({}, self._waiters.socket_name)

    def _commit_group(self, group: Sequence[Append]) -> None:
        commit = self._attempt(partial(self._writer.append, [item.request for item in group]))
        if not isinstance(commit, TransportError):
            # Readers first: they are what a training step waits for.
            self._sender.wake_all(commit.ends, self._waiters.socket_name)
            self._call_loop(partial(self._settle, group, commit))

    def _attempt(self, run: Callable[[], T]) -> T | TransportError:
        """Run something; whatever is not a refusal by the contract breaks this object."""
        if self._broken is not None:
            return self._broken_error()
        try:
            return run()
        except TransportBroken as error:
            self._break(str(error))
        except TransportError as refusal:
            return refusal
        except Exception as error:  # noqa: BLE001 - a bug must not leave callers waiting either
            self._break(f"{type(error).__name__}: {error}")
        return self._broken_error()

    def _break(self, reason: str) -> None:
        """From any thread: nothing works from now on, and nobody waits in vain."""
        if self._broken is None:
            self._broken = (
                f"the log {self._layout.directory} failed and cannot be used by this process any "
                f"more: {reason}"
            )
            self._call_loop(self._fail_all)

    # On the event loop again.

    def _fail_all(self) -> None:
        self._waiters.fail(self._broken_error)
        for job in self._jobs:
            _answer(job, self._broken_error())
        if not self._read_only:
            self._admission.fail(self._broken_error)

    def _settle(self, group: Sequence[Append], commit: GroupCommit) -> None:
        for append, outcome in zip(group, commit.outcomes, strict=True):
            self._admission.settle(append, outcome)
        self._waiters.reached(commit.ends)


def _answer(future: asyncio.Future[object], outcome: object) -> None:
    if future.done():
        return
    if isinstance(outcome, TransportError):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)


def _prepare(layout: Layout, read_only: bool, patience: Patience) -> None:
    if read_only:
        recovery.require(layout)
    else:
        recovery.create(layout, patience)
        recovery.recover(layout, patience)


def _prepare_record(record: Record) -> PreparedRecord:
    size = len(record.value)
    if record.key is not None:
        size += len(record.key)
    for name, value in record.headers:
        size += len(name.encode()) + len(value)
    return PreparedRecord(
        value=record.value, key=record.key, headers=encode_headers(record.headers), size=size
    )
