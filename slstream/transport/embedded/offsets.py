"""Assigning offsets to the records of one transaction."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from slstream.errors import RecordTooLarge, TransportError
from slstream.transport.embedded.index import Index, Partition


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
class GroupCommit:
    """What became of a group of appends."""

    outcomes: Sequence[int | TransportError]
    """For each append the offset of its first record, or why it was refused."""
    ends: Mapping[int, int]
    """New end offset by id of partition."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where the value of a record lies."""

    segment: int
    position: int
    checksum: int


class Directory:
    """Partitions by name, remembered.

    What is remembered of a partition never changes, and its id is never used again: a topic that
    was deleted shows by the absence of its partition's row.
    """

    def __init__(self, index: Index) -> None:
        self._index = index
        self._known: dict[tuple[str, int], Partition] = {}

    def find(self, request: AppendRequest) -> Partition:
        """The partition of a request, as it was when it was first seen.

        Raises:
            UnknownTopic: no such topic or partition.
            RecordTooLarge: the topic does not take a record of this size.
        """
        key = (request.topic, request.partition)
        if key not in self._known:
            self._known[key] = self._index.partition(*key)
        _check_sizes(request, self._known[key].max_record_bytes)
        return self._known[key]

    def forget(self, request: AppendRequest) -> None:
        """Look the partition up again the next time."""
        self._known.pop((request.topic, request.partition), None)


@dataclass(slots=True)
class _Tail:
    """The end of a partition within a transaction."""

    end: int
    timestamp_ms: int
    bytes: int


class OffsetAssignment:
    """Gives the records of a write transaction their offsets, and stores their rows."""

    def __init__(self, db: sqlite3.Connection, directory: Directory) -> None:
        """Start with the partitions as they are; ``db`` is in a write transaction."""
        self._db = db
        self._directory = directory
        self._now_ms = time.time_ns() // 1_000_000
        self._tails: dict[int, _Tail] = {}

    def add(self, request: AppendRequest, places: Sequence[Place]) -> int:
        """Put the records of a request at the end of its partition; returns the first offset.

        Raises:
            UnknownTopic: the topic was deleted meanwhile.
            RecordTooLarge: it was deleted and created anew with a smaller limit.
        """
        partition, tail = self._tail(request)
        first = tail.end
        rows = []
        for offset, (record, place) in enumerate(zip(request.records, places, strict=True), first):
            identity = (partition, offset, tail.timestamp_ms, record.key, record.headers)
            where = (place.segment, place.position, len(record.value), place.checksum)
            rows.append((*identity, *where))
        self._db.executemany("INSERT INTO records VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)
        tail.end += len(request.records)
        tail.bytes += sum(record.size for record in request.records)
        return first

    def store_ends(self) -> None:
        """Move the ends of all partitions that have grown."""
        self._db.executemany(
            'UPDATE partitions SET "end" = ?, timestamp_ms = ?, bytes = ? WHERE id = ?',
            [(t.end, t.timestamp_ms, t.bytes, partition) for partition, t in self._tails.items()],
        )

    def ends(self) -> dict[int, int]:
        """The new end offset of each partition that has grown, by its id."""
        return {partition: tail.end for partition, tail in self._tails.items()}

    def _tail(self, request: AppendRequest) -> tuple[int, _Tail]:
        partition = self._directory.find(request).id
        tail = self._tails.get(partition) or self._load(partition)
        if tail is None:
            self._directory.forget(request)
            partition = self._directory.find(request).id
            # Found by its name within this transaction, so its row is there.
            tail = self._tails.get(partition) or self._load(partition) or _Tail(0, 0, 0)
        self._tails[partition] = tail
        return partition, tail

    def _load(self, partition: int) -> _Tail | None:
        found = self._db.execute(
            'SELECT "end", timestamp_ms, bytes FROM partitions WHERE id = ?', (partition,)
        ).fetchone()
        if found is None:
            return None
        end, timestamp_ms, size = found
        # The clock may have been set back.
        return _Tail(end=end, timestamp_ms=max(timestamp_ms, self._now_ms), bytes=size)


def _check_sizes(request: AppendRequest, limit: int) -> None:
    for i, record in enumerate(request.records):
        if record.size > limit:
            raise RecordTooLarge(
                f"{request.topic}[{request.partition}]: record {i} of this append has "
                f"{record.size} bytes of key, headers and value; the topic takes {limit}"
            )
