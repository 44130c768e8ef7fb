"""The writing side of one transport object: group commit, topics, durability, retention.

All methods run in the writer thread. Refusals are returned or raised as the contract says; any
other exception means that the storage failed, and then the object is of no more use.
"""

from __future__ import annotations

import contextlib
import sqlite3
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from slstream.errors import RecordTooLarge, TransportBroken, TransportError, UnknownTopic
from slstream.transport.contract import Durability, TopicConfig
from slstream.transport.embedded.index import Index
from slstream.transport.embedded.layout import Layout
from slstream.transport.embedded.lock import FileLock
from slstream.transport.embedded.payload import Payload
from slstream.transport.embedded.retention import empty_segments, retained_partitions, retire
from slstream.transport.embedded.segments import (
    SegmentWriter,
    remove_if_unused,
    segment_path,
    sync_file,
)
from slstream.transport.topics import check_same_config

_RETENTION_PERIOD_S = 1.0
_RETIRE_AT_ONCE = 4096
_COMMITS_PER_CHECKPOINT = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedRecord:
    """A record with its headers as the index stores them."""

    value: bytes
    key: bytes | None
    headers: bytes | None
    size: int
    """Bytes of key, headers and value, as the topic's limit counts them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AppendRequest:
    """The records of one ``append`` call."""

    topic: str
    partition: int
    records: Sequence[PreparedRecord]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Admitted:
    """A request whose topic exists and takes its records."""

    place: int
    """In the group."""
    partition: int
    """Id of the partition."""
    records: Sequence[PreparedRecord]


@dataclass(slots=True)
class _Tail:
    """The end of a partition within a transaction."""

    end: int
    timestamp_ms: int
    bytes: int


class LogWriter:
    """Writes payload to segment files of its own and makes it visible in the index."""

    def __init__(
        self, layout: Layout, durability: Durability, *, request_checkpoint: Callable[[], None]
    ) -> None:
        """Connect; nothing is written before the first append.

        Args:
            layout: of a log that exists.
            durability: when a commit counts as done.
            request_checkpoint: called when the WAL should be moved into the database soon.
        """
        self._layout = layout
        self._step = durability is Durability.STEP
        self._index = Index(layout.index)
        self._index.synchronous(full=self._step)
        self._lock = FileLock(layout.write_lock)
        self._payload = Payload(layout.segments)
        self._request_checkpoint = request_checkpoint
        self._commits = 0
        self._retired_at = time.monotonic()
        self._suspect: set[int] = set()

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock, self._index.transaction() as db:
            yield db

    def append(self, requests: Sequence[AppendRequest]) -> list[int | TransportError]:
        """Append the records of several calls in one transaction, in order.

        Returns:
            For each call the offset of its first record, or why it was refused.
        """
        outcomes: dict[int, int | TransportError] = {}
        admitted = self._admit(requests, outcomes)
        if admitted:
            values = [record.value for request in admitted for record in request.records]
            segment = self._payload.active() or self._start_segment()
            position = segment.append(values)
            checksums = [zlib.crc32(value) for value in values]
            if self._step:
                segment.sync()
            self._commit(admitted, segment, position, checksums, outcomes)
        return [outcomes[place] for place in range(len(requests))]

    def _admit(
        self, requests: Sequence[AppendRequest], outcomes: dict[int, int | TransportError]
    ) -> list[_Admitted]:
        """Refuse what the topic does not take, before any byte of it is written."""
        admitted: list[_Admitted] = []
        for place, request in enumerate(requests):
            try:
                partition = self._index.partition(request.topic, request.partition)
                _check_sizes(request, partition.max_record_bytes)
            except TransportError as refusal:
                outcomes[place] = refusal
            else:
                admitted.append(
                    _Admitted(place=place, partition=partition.id, records=request.records)
                )
        return admitted

    def _start_segment(self) -> SegmentWriter:
        # The file is created under the write lock: a cleaner, who holds it too, never sees a
        # segment whose file is not there yet or not locked yet.
        with self._lock:
            with self._index.transaction() as db:
                key = db.execute("INSERT INTO segments DEFAULT VALUES").lastrowid
            if key is None:
                raise TransportBroken(f"{self._layout.index}: no id for a new segment")
            segment = self._payload.start(key)
        if self._step:
            sync_file(self._layout.segments)
        return segment

    def _commit(
        self,
        admitted: Sequence[_Admitted],
        segment: SegmentWriter,
        position: int,
        checksums: Sequence[int],
        outcomes: dict[int, int | TransportError],
    ) -> None:
        tails: dict[int, _Tail | None] = {}
        remaining = iter(checksums)
        with self._transaction() as db:
            if self._step:
                # What a process that does not sync each step has put in front of these records
                # must not be lost without them.
                self._prove(db, self._sync_unproven())
            now_ms = time.time_ns() // 1_000_000
            for request in admitted:
                if request.partition not in tails:
                    tails[request.partition] = _tail(db, request.partition, now_ms)
                tail = tails[request.partition]
                rows = []
                for record in request.records:
                    place = (segment.segment, position, len(record.value), next(remaining))
                    position += len(record.value)
                    rows.append((record.key, record.headers, *place))
                if tail is None:
                    outcomes[request.place] = UnknownTopic("the topic was deleted meanwhile")
                    continue
                outcomes[request.place] = tail.end
                db.executemany(
                    "INSERT INTO records VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    [
                        (request.partition, tail.end + i, tail.timestamp_ms, *row)
                        for i, row in enumerate(rows)
                    ],
                )
                tail.end += len(rows)
                tail.bytes += sum(record.size for record in request.records)
            db.executemany(
                'UPDATE partitions SET "end" = ?, timestamp_ms = ?, bytes = ? WHERE id = ?',
                [(t.end, t.timestamp_ms, t.bytes, key) for key, t in tails.items() if t],
            )
            db.execute(
                "UPDATE segments SET length = ?, durable = iif(?, ?, durable) WHERE id = ?",
                (position, self._step, position, segment.segment),
            )
        self._commits += 1
        if self._commits % _COMMITS_PER_CHECKPOINT == 0:
            self._request_checkpoint()

    def create_topic(self, topic: str, config: TopicConfig) -> None:
        """Create a topic, or check that it exists with the same settings."""
        with self._transaction() as db:
            try:
                existing = self._index.topic(topic)
            except UnknownTopic:
                _insert_topic(db, topic, config)
                return
            check_same_config(topic, existing, config)

    def delete_topic(self, topic: str) -> None:
        """Remove a topic with its records."""
        with self._transaction() as db:
            self._index.topic(topic)
            partitions = "SELECT p.id FROM partitions p JOIN topics t ON p.topic = t.id"
            db.execute(
                f"DELETE FROM records WHERE partition IN ({partitions} WHERE t.name = ?)", (topic,)
            )
            db.execute(
                f"DELETE FROM partitions WHERE id IN ({partitions} WHERE t.name = ?)", (topic,)
            )
            db.execute("DELETE FROM topics WHERE name = ?", (topic,))
        self.remove_empty_segments()

    def flush(self) -> None:
        """Force to disk every record that the index shows now, whoever wrote it.

        The records of other processes that precede ours in a partition must survive for ours to
        survive; hence all segments are synced, and then the index.
        """
        proven = self._sync_unproven()
        sync_file(self._layout.segments)
        self._commit_forced(proven)
        self._payload.close_synced()

    def _sync_unproven(self) -> dict[int, int]:
        """Sync the segments that need it; returns how many bytes of each are on the disk now."""
        proven = {}
        for key, length, failed in self._index.unproven_segments():
            path = segment_path(self._layout.segments, key)
            if failed:
                raise TransportBroken(
                    f"{path}: an earlier attempt to force it to the disk failed, in this or "
                    f"another process; stop all processes that use the log, check the disk, and "
                    f"open the log again"
                )
            own = self._payload.find(key)
            self._suspect.add(key)
            if own is not None:
                own.sync()
            else:
                # Retention may have removed it meanwhile: then no record refers to it any more.
                with contextlib.suppress(FileNotFoundError):
                    sync_file(path)
            self._suspect.discard(key)
            proven[key] = length
        return proven

    def _commit_forced(self, proven: Mapping[int, int]) -> None:
        """Force all earlier commits of all processes to the disk, with the marks of ``proven``."""
        self._index.synchronous(full=True)
        self._suspect.update(proven)
        with self._transaction() as db:
            db.execute("UPDATE marks SET forced = forced + 1")
            self._prove(db, proven)
        self._suspect.difference_update(proven)
        self._index.synchronous(full=self._step)

    def _prove(self, db: sqlite3.Connection, proven: Mapping[int, int]) -> None:
        db.executemany(
            "UPDATE segments SET durable = max(durable, ?) WHERE id = ? AND NOT failed",
            [(length, key) for key, length in proven.items()],
        )

    def abandon(self) -> None:
        """After a failure: keep other processes from believing in what could not be synced.

        After a failed sync the page cache still shows the data and a second sync reports success,
        so the failure must be told. The disk is failing: this is an attempt, no promise.
        """
        if self._suspect:
            with contextlib.suppress(OSError, sqlite3.Error), self._transaction() as db:
                db.executemany(
                    "UPDATE segments SET failed = 1 WHERE id = ?", [(s,) for s in self._suspect]
                )

    def retire_now_and_then(self) -> None:
        """Enforce retention, at most once a second."""
        now = time.monotonic()
        if now - self._retired_at >= _RETENTION_PERIOD_S:
            self._retired_at = now
            self.retire()

    def retire(self) -> None:
        """Enforce retention now."""
        removed = 0
        while count := self._retire_some():
            removed += count
        if removed:
            self.remove_empty_segments()

    def _retire_some(self) -> int:
        """One transaction's worth, so that no append waits for long."""
        with self._transaction() as db:
            now_ms = time.time_ns() // 1_000_000
            return sum(
                retire(db, partition, now_ms, _RETIRE_AT_ONCE)
                for partition in retained_partitions(db)
            )

    def remove_empty_segments(self) -> None:
        """Delete the payload files that no record refers to and nobody appends to.

        Readers are safe: who has the file open reads on, and who comes too late for it looks into
        the index again.
        """
        with self._transaction() as db:
            empty = empty_segments(db)
        self._payload.discard(empty)
        if not empty:
            return
        # A power cut must not bring records back whose file is gone.
        self._commit_forced({})
        with self._transaction() as db:
            for key in empty_segments(db):
                if remove_if_unused(self._layout.segments, key):
                    db.execute("DELETE FROM segments WHERE id = ?", (key,))

    def close(self) -> None:
        """Release everything."""
        self._payload.close()
        self._index.close()
        self._lock.close()


def _check_sizes(request: AppendRequest, limit: int) -> None:
    for i, record in enumerate(request.records):
        if record.size > limit:
            raise RecordTooLarge(
                f"{request.topic}[{request.partition}]: record {i} of this append has "
                f"{record.size} bytes of key, headers and value; the topic takes {limit}"
            )


def _tail(db: sqlite3.Connection, partition: int, now_ms: int) -> _Tail | None:
    found = db.execute(
        'SELECT "end", timestamp_ms, bytes FROM partitions WHERE id = ?', (partition,)
    ).fetchone()
    if found is None:
        return None
    end, timestamp_ms, size = found
    # The clock may have been set back.
    return _Tail(end=end, timestamp_ms=max(timestamp_ms, now_ms), bytes=size)


def _insert_topic(db: sqlite3.Connection, topic: str, config: TopicConfig) -> None:
    key = db.execute(
        "INSERT INTO topics (name, partitions, retention_ms, retention_bytes, max_record_bytes) "
        "VALUES (?, ?, ?, ?, ?)",
        (
            topic,
            config.partitions,
            config.retention_ms,
            config.retention_bytes,
            config.max_record_bytes,
        ),
    ).lastrowid
    db.executemany(
        "INSERT INTO partitions (topic, number) VALUES (?, ?)",
        [(key, number) for number in range(config.partitions)],
    )
