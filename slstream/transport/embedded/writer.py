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

from slstream.errors import TransportBroken, TransportError, UnknownTopic
from slstream.transport.contract import Durability, TopicConfig
from slstream.transport.embedded.folders import sync_file
from slstream.transport.embedded.forcing import Forcer, prove
from slstream.transport.embedded.index import Index
from slstream.transport.embedded.layout import Layout
from slstream.transport.embedded.lock import FileLock
from slstream.transport.embedded.offsets import (
    AppendRequest,
    Directory,
    GroupCommit,
    OffsetAssignment,
    Place,
)
from slstream.transport.embedded.payload import Payload
from slstream.transport.embedded.retention import empty_segments, retained_partitions, retire
from slstream.transport.embedded.segments import (
    SegmentWriter,
    remove_if_unused,
)
from slstream.transport.topics import check_same_config

_RETENTION_PERIOD_S = 1.0
_RETIRE_AT_ONCE = 4096
_COMMITS_PER_CHECKPOINT = 256


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
        self._directory = Directory(self._index)
        self._request_checkpoint = request_checkpoint
        self._commits = 0
        self._retired_at = time.monotonic()
        self._forcer = Forcer(layout, self._index, self._lock)

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock, self._index.transaction() as db:
            yield db

    def append(self, requests: Sequence[AppendRequest]) -> GroupCommit:
        """Append the records of several calls in one transaction, in order."""
        admitted: list[AppendRequest] = []
        refusals: dict[int, TransportError] = {}
        for i, request in enumerate(requests):
            # Before any byte is written, so that what is refused takes no room on the disk.
            try:
                self._directory.find(request)
                admitted.append(request)
            except TransportError as refusal:
                refusals[i] = refusal
        if not admitted:
            return GroupCommit(outcomes=list(refusals.values()), ends={})
        commit = self._write(admitted)
        offsets = iter(commit.outcomes)
        return GroupCommit(
            outcomes=[refusals.get(i) or next(offsets) for i in range(len(requests))],
            ends=commit.ends,
        )

    def _write(self, requests: Sequence[AppendRequest]) -> GroupCommit:
        segment = self._payload.active() or self._start_segment()
        self._sync_overdue()
        values = [record.value for request in requests for record in request.records]
        position = segment.append(values)
        places = []
        for value in values:
            place = Place(segment=segment.segment, position=position, checksum=zlib.crc32(value))
            places.append(place)
            position += len(value)
        if self._step:
            segment.sync()
        with self._forcer.telling_of_failures():
            commit = self._commit(requests, places, segment)
        self._commits += 1
        if self._commits % _COMMITS_PER_CHECKPOINT == 0:
            self._request_checkpoint()
        return commit

    def _commit(
        self, requests: Sequence[AppendRequest], places: Sequence[Place], segment: SegmentWriter
    ) -> GroupCommit:
        outcomes: list[int | TransportError] = []
        done = 0
        with self._transaction() as db:
            if self._step:
                # What a process that does not sync each step has put in front of these records
                # must not be lost without them.
                prove(db, self._forcer.sync_segments())
            assignment = OffsetAssignment(db, self._directory)
            for request in requests:
                count = len(request.records)
                try:
                    outcomes.append(assignment.add(request, places[done : done + count]))
                except TransportError as refusal:
                    outcomes.append(refusal)
                done += count
            assignment.store_ends()
            db.execute(
                "UPDATE segments SET length = ?, durable = iif(?, ?, durable) WHERE id = ?",
                (segment.length, self._step, segment.length, segment.segment),
            )
        return GroupCommit(outcomes=outcomes, ends=assignment.ends())

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

    def let_go(self, forced: Mapping[int, int]) -> None:
        """Close the full segments that were forced to the disk, given how many bytes of each."""
        self._payload.close_synced(forced)

    def _sync_overdue(self) -> None:
        overdue = self._payload.overdue()
        if overdue is not None:
            with self._forcer.telling_of_failures(overdue.segment):
                overdue.sync()
            self._payload.discard([overdue.segment])

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
        self._forcer.sync_index()
        with self._transaction() as db:
            for key in empty_segments(db):
                if remove_if_unused(self._layout.segments, key):
                    db.execute("DELETE FROM segments WHERE id = ?", (key,))

    def close(self) -> None:
        """Release everything."""
        self._payload.close()
        self._index.close()
        self._lock.close()


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
