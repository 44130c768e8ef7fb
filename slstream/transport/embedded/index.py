"""The index: an SQLite file that says which records exist and where their bytes lie.

A record exists when its row is committed, not before. All statements of the embedded transport are
here; each thread has a connection of its own.
"""

from __future__ import annotations

import sqlite3
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from slstream.errors import OffsetOutOfRange, TransportBroken, TransportError, UnknownTopic
from slstream.transport.contract import TopicConfig

FORMAT = 1
"""Version of the directory's layout, in SQLite's ``user_version``."""

_APPLICATION_ID = 0x736C7374  # "slst"
_BUSY_TIMEOUT_S = 5.0

_SCHEMA = f"""
CREATE TABLE topics (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE,
    partitions INTEGER NOT NULL,
    retention_ms INTEGER,
    retention_bytes INTEGER,
    max_record_bytes INTEGER NOT NULL
) STRICT;
CREATE TABLE partitions (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    topic INTEGER NOT NULL REFERENCES topics (id),
    number INTEGER NOT NULL,
    start INTEGER NOT NULL DEFAULT 0,        -- first offset that is kept
    "end" INTEGER NOT NULL DEFAULT 0,        -- offset that the next record gets
    timestamp_ms INTEGER NOT NULL DEFAULT 0, -- of the last record
    bytes INTEGER NOT NULL DEFAULT 0,        -- keys, headers and values of the records kept
    UNIQUE (topic, number)
) STRICT;
CREATE TABLE segments (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    length INTEGER NOT NULL DEFAULT 0,       -- bytes that committed records refer to
    durable INTEGER NOT NULL DEFAULT 0,      -- bytes that are known to be on the disk
    failed INTEGER NOT NULL DEFAULT 0        -- 1: forcing it to the disk has failed
) STRICT;
CREATE TABLE records (
    partition INTEGER NOT NULL REFERENCES partitions (id),
    "offset" INTEGER NOT NULL,
    timestamp_ms INTEGER NOT NULL,
    key BLOB,
    headers BLOB,
    segment INTEGER NOT NULL REFERENCES segments (id),
    position INTEGER NOT NULL,
    length INTEGER NOT NULL,
    checksum INTEGER NOT NULL,               -- CRC-32 of the value
    PRIMARY KEY (partition, "offset")
) STRICT, WITHOUT ROWID;
CREATE INDEX records_by_place ON records (segment, position);
CREATE TABLE marks (
    forced INTEGER NOT NULL                  -- grows so that a commit has something to write
) STRICT;
INSERT INTO marks VALUES (0);
PRAGMA application_id = {_APPLICATION_ID};
PRAGMA user_version = {FORMAT};
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Partition:
    """A partition as the index has it now."""

    id: int
    """Never used again, also not when the topic is deleted and created anew."""
    start: int
    end: int
    max_record_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Where a record lies."""

    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    headers: bytes | None
    segment: int
    position: int
    length: int
    checksum: int

    @property
    def size(self) -> int:
        """Bytes of key, headers and value."""
        return self.length + len(self.key or b"") + len(self.headers or b"")


_ROW = 'partition, "offset", timestamp_ms, key, headers, segment, position, length, checksum'


def _row(values: tuple[int, int, int, bytes | None, bytes | None, int, int, int, int]) -> Row:
    partition, offset, timestamp_ms, key, headers, segment, position, length, checksum = values
    return Row(
        partition=partition,
        offset=offset,
        timestamp_ms=timestamp_ms,
        key=key,
        headers=headers,
        segment=segment,
        position=position,
        length=length,
        checksum=checksum,
    )


class Index:
    """A connection to the index. Used by one thread at a time."""

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        """Connect to an index that exists.

        Raises:
            TransportError: the file is no index, or one of another format.
            sqlite3.Error: it cannot be read.
        """
        self.path = path
        # Ids are never used again, so at worst one finds no records.
        self._ids: dict[tuple[str, int], int] = {}
        self._db = _connect(path, "ro" if read_only else "rw")
        try:
            found = self.format()
        except BaseException:
            self._db.close()
            raise
        if found != FORMAT:
            self._db.close()
            raise TransportError(
                f"{path}: expected log format {FORMAT}, found {found}; open this log with the "
                f"release of slstream that wrote it"
            )

    @classmethod
    def create(cls, path: Path) -> None:
        """Create the index if it does not exist. The caller holds the write lock."""
        db = _connect(path, "rwc")
        try:
            (found,) = db.execute("PRAGMA user_version").fetchone()
            (tables,) = db.execute("SELECT count(*) FROM sqlite_schema").fetchone()
            if found == 0 and tables == 0:
                db.execute("PRAGMA journal_mode = WAL")
                db.executescript(f"BEGIN IMMEDIATE;{_SCHEMA}COMMIT;")
        finally:
            db.close()

    def format(self) -> int:
        """The format number of the index; 0 for an SQLite file that is none of ours."""
        (application,) = self._db.execute("PRAGMA application_id").fetchone()
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        return int(version) if application == _APPLICATION_ID else 0

    def synchronous(self, *, full: bool) -> None:
        """Whether commits wait for the disk."""
        self._db.execute(f"PRAGMA synchronous = {'FULL' if full else 'NORMAL'}")

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """One write transaction. The caller holds the write lock."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield self._db
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise

    def partition(self, topic: str, number: int) -> Partition:
        """Find a partition.

        Raises:
            UnknownTopic: there is no such topic or partition.
        """
        found = self._db.execute(
            'SELECT p.id, p.start, p."end", t.max_record_bytes '
            "FROM partitions p JOIN topics t ON p.topic = t.id WHERE t.name = ? AND p.number = ?",
            (topic, number),
        ).fetchone()
        if found is None:
            config = self.topic(topic)
            raise UnknownTopic(
                f"topic {topic!r} has partitions 0 to {config.partitions - 1}, not {number}"
            )
        key, start, end, max_record_bytes = found
        self._ids[topic, number] = key
        return Partition(id=key, start=start, end=end, max_record_bytes=max_record_bytes)

    def end(self, partition: int) -> int | None:
        """The end offset of a partition, or ``None`` when it was deleted."""
        found = self._db.execute(
            'SELECT "end" FROM partitions WHERE id = ?', (partition,)
        ).fetchone()
        return None if found is None else int(found[0])

    def topic(self, topic: str) -> TopicConfig:
        """Settings of a topic.

        Raises:
            UnknownTopic: there is no such topic.
        """
        found = self._db.execute(
            "SELECT partitions, retention_ms, retention_bytes, max_record_bytes "
            "FROM topics WHERE name = ?",
            (topic,),
        ).fetchone()
        if found is None:
            raise UnknownTopic(f"no topic {topic!r} in the log {self.path.parent}")
        partitions, retention_ms, retention_bytes, max_record_bytes = found
        return TopicConfig(
            partitions=partitions,
            retention_ms=retention_ms,
            retention_bytes=retention_bytes,
            max_record_bytes=max_record_bytes,
        )

    def topics(self, prefix: str) -> list[str]:
        """Names that start with ``prefix``, sorted."""
        found = self._db.execute(
            "SELECT name FROM topics WHERE substr(name, 1, ?) = ? ORDER BY name",
            (len(prefix), prefix),
        )
        return [name for (name,) in found]

    def rows(
        self, topic: str, number: int, offset: int, max_records: int, max_bytes: int
    ) -> list[Row]:
        """Places of records from ``offset`` on; at least one when there is one.

        Raises:
            UnknownTopic: no such topic or partition.
            OffsetOutOfRange: ``offset`` is outside what is kept.
            TransportBroken: the index contradicts itself.
        """
        known = self._ids.get((topic, number))
        if known is not None:
            rows = self._rows(known, offset, max_records, max_bytes)
            if rows and rows[0].offset == offset:
                return rows
        before = None
        while True:
            partition = self.partition(topic, number)
            if not partition.start <= offset <= partition.end:
                raise OffsetOutOfRange(
                    f"{topic}[{number}]: expected an offset in {partition.start} to "
                    f"{partition.end}, found {offset}"
                )
            rows = self._rows(partition.id, offset, max_records, max_bytes)
            # The two statements see different snapshots: look again when the front was removed
            # between them.
            if (rows and rows[0].offset == offset) or (not rows and offset == partition.end):
                return rows
            if partition == before:
                # Nothing was removed between two looks, and yet the row is not there.
                raise TransportBroken(
                    f"{topic}[{number}]: expected the records {partition.start} to "
                    f"{partition.end - 1} in {self.path}, found none at {offset}; the file was "
                    f"damaged after it was written, restore it or check the disk"
                )
            before = partition

    def _rows(self, partition: int, offset: int, max_records: int, max_bytes: int) -> list[Row]:
        cursor = self._db.execute(
            f'SELECT {_ROW} FROM records WHERE partition = ? AND "offset" >= ? '
            'ORDER BY "offset" LIMIT ?',
            (partition, offset, max_records),
        )
        rows: list[Row] = []
        size = 0
        for values in cursor:
            row = _row(values)
            size += row.size
            if rows and size > max_bytes:
                break
            rows.append(row)
        cursor.close()
        return rows

    def unproven_rows(self) -> Iterator[Row]:
        """Rows whose bytes are not known to be on the disk, segment by segment."""
        segments = self._db.execute(
            "SELECT id, durable FROM segments WHERE length > durable ORDER BY id"
        ).fetchall()
        for segment, durable in segments:
            rows = self._db.execute(
                f"SELECT {_ROW} FROM records WHERE segment = ? AND position >= ? ORDER BY position",
                (segment, durable),
            )
            yield from map(_row, rows)

    def row(self, partition: int, offset: int) -> Row | None:
        """The row of one record."""
        rows = self._rows(partition, offset, 1, 0)
        return rows[0] if rows and rows[0].offset == offset else None

    def partition_name(self, partition: int) -> str:
        """A partition's topic and number, for messages."""
        name, number = self._db.execute(
            "SELECT t.name, p.number FROM partitions p JOIN topics t ON p.topic = t.id "
            "WHERE p.id = ?",
            (partition,),
        ).fetchone()
        return f"{name}[{number}]"

    def segments(self) -> set[int]:
        """All segments."""
        return {segment for (segment,) in self._db.execute("SELECT id FROM segments")}

    def unproven_segments(self) -> list[tuple[int, int, bool]]:
        """Segments with bytes that are not known to be on the disk: (id, length, failed)."""
        found = self._db.execute(
            "SELECT id, length, failed FROM segments WHERE length > durable OR failed ORDER BY id"
        )
        return [(segment, length, bool(failed)) for segment, length, failed in found]

    def checkpoint(self, mode: str) -> int:
        """Move the WAL into the database; returns the pages that the WAL holds."""
        _, pages, _ = self._db.execute(f"PRAGMA wal_checkpoint({mode})").fetchone()
        return int(pages)

    def close(self) -> None:
        """Close the connection."""
        self._db.close()


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    db = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}",
        uri=True,
        timeout=_BUSY_TIMEOUT_S,
        isolation_level=None,
        check_same_thread=False,
    )
    # Only Checkpointer moves the WAL, for the reason given there.
    db.execute("PRAGMA wal_autocheckpoint = 0")
    return db


def encode_headers(headers: tuple[tuple[str, bytes], ...]) -> bytes | None:
    """Names and values, each after its length as u32, big-endian; ``None`` without headers.

    Raises:
        ValueError: a name is no valid Unicode.
    """
    if not headers:
        return None
    fields = (field for name, value in headers for field in (name.encode(), value))
    return b"".join(struct.pack(">I", len(field)) + field for field in fields)


def decode_headers(data: bytes | None) -> tuple[tuple[str, bytes], ...]:
    """Inverse of :func:`encode_headers`."""
    fields: list[bytes] = []
    position = 0
    while data is not None and position < len(data):
        (length,) = struct.unpack_from(">I", data, position)
        fields.append(data[position + 4 : position + 4 + length])
        position += 4 + length
    return tuple(
        (name.decode(), value) for name, value in zip(fields[::2], fields[1::2], strict=True)
    )
