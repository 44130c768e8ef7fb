"""Removing records from the front of partitions, and payload files that nothing refers to."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

_SIZE = "length + ifnull(length(key), 0) + ifnull(length(headers), 0)"


@dataclass(frozen=True, slots=True, kw_only=True)
class RetainedPartition:
    """A partition whose topic limits the age or the size of what is kept."""

    id: int
    bytes: int
    retention_ms: int | None
    retention_bytes: int | None


def retained_partitions(db: sqlite3.Connection) -> list[RetainedPartition]:
    """All partitions of topics with a retention setting."""
    found = db.execute(
        "SELECT p.id, p.bytes, t.retention_ms, t.retention_bytes "
        "FROM topics t JOIN partitions p ON p.topic = t.id "
        "WHERE t.retention_ms IS NOT NULL OR t.retention_bytes IS NOT NULL"
    )
    return [
        RetainedPartition(id=key, bytes=size, retention_ms=age, retention_bytes=limit)
        for key, size, age, limit in found
    ]


def retire(
    db: sqlite3.Connection, partition: RetainedPartition, now_ms: int, max_records: int
) -> int:
    """Remove what is too old, or too much, from the front; returns how many records.

    As with Kafka, at least ``retention_bytes`` stay: a record goes only when what follows it
    still fills the limit.
    """
    size = partition.bytes
    removed = 0
    start = 0
    for offset, timestamp_ms, length in db.execute(
        f'SELECT "offset", timestamp_ms, {_SIZE} FROM records WHERE partition = ? '
        'ORDER BY "offset" LIMIT ?',
        (partition.id, max_records),
    ):
        age, limit = partition.retention_ms, partition.retention_bytes
        too_old = age is not None and timestamp_ms < now_ms - age
        too_much = limit is not None and size - length >= limit
        if not (too_old or too_much):
            break
        size -= length
        removed += 1
        start = offset + 1
    if removed:
        db.execute(
            'DELETE FROM records WHERE partition = ? AND "offset" < ?', (partition.id, start)
        )
        db.execute(
            "UPDATE partitions SET start = ?, bytes = ? WHERE id = ?", (start, size, partition.id)
        )
    return removed


def cut(db: sqlite3.Connection, partition: int, offset: int) -> int:
    """Remove the records from ``offset`` on; returns how many. Only recovery may do this."""
    removed = db.execute(
        'DELETE FROM records WHERE partition = ? AND "offset" >= ?', (partition, offset)
    ).rowcount
    db.execute(
        f'UPDATE partitions SET "end" = ?, bytes = (SELECT ifnull(sum({_SIZE}), 0) FROM records '
        "WHERE partition = ?) WHERE id = ?",
        (offset, partition, partition),
    )
    return removed


def empty_segments(db: sqlite3.Connection) -> list[int]:
    """Segments that no record refers to."""
    found = db.execute(
        "SELECT id FROM segments s WHERE NOT EXISTS "
        "(SELECT 1 FROM records r WHERE r.segment = s.id)"
    )
    return [segment for (segment,) in found]
