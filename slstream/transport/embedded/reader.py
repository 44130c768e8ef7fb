"""Reading records: places from the index, bytes from the segments, checksums compared."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence

from slstream.errors import TransportBroken
from slstream.transport.contract import StoredRecord
from slstream.transport.embedded.index import Index, Row, decode_headers
from slstream.transport.embedded.layout import Layout
from slstream.transport.embedded.segments import SegmentReader, segment_path

_READ_AHEAD = 65_536
_MAX_BYTES_NOW = 524_288
_MAX_RECORDS_NOW = 64

_ReadBytes = Callable[[int, int, int], bytes]


class LogReader:
    """Reads one log. Used by one thread."""

    def __init__(self, layout: Layout, *, read_only: bool) -> None:
        """Connect to a log that exists."""
        self._layout = layout
        self.index = Index(layout.index, read_only=read_only)
        self._segments = SegmentReader(layout.segments)

    def read(
        self, topic: str, partition: int, offset: int, max_records: int, max_bytes: int
    ) -> Sequence[StoredRecord]:
        """Records from ``offset`` on, as :meth:`Transport.read` says.

        Raises:
            TransportBroken: a record's bytes are missing or not those that were appended.
        """
        missing: Row | None = None
        while True:
            rows = self.index.rows(topic, partition, offset, max_records, max_bytes)
            if missing is not None and missing in rows:
                raise TransportBroken(self._damage(topic, partition, missing, "no such file"))
            try:
                values = _values(rows, self._segments.read)
            except _MissingFileError as error:
                # Retention removed the file after the look into the index. If the index still
                # names it when asked again, it is lost.
                missing = error.row
                continue
            return self._records(topic, partition, rows, values)

    def read_now(
        self, topic: str, partition: int, offset: int, max_records: int, max_bytes: int
    ) -> Sequence[StoredRecord] | None:
        """The same, if it takes well below a millisecond; ``None`` when it may not.

        The event loop does this itself, because handing a read to a thread and back costs as
        much as the read of a typical frame.
        """
        try:
            rows = self.index.rows(
                topic, partition, offset, min(max_records, _MAX_RECORDS_NOW + 1), max_bytes
            )
            if len(rows) > _MAX_RECORDS_NOW or sum(row.length for row in rows) > _MAX_BYTES_NOW:
                return None
            values = _values(rows, self._segments.read_cached)
        except (OSError, _MissingFileError):
            return None
        return self._records(topic, partition, rows, values)

    def _records(
        self, topic: str, partition: int, rows: Sequence[Row], values: Sequence[bytes]
    ) -> list[StoredRecord]:
        for row, value in zip(rows, values, strict=True):
            if not is_intact(row, value):
                found = f"{len(value)} bytes with CRC-32 {zlib.crc32(value):08x}"
                raise TransportBroken(self._damage(topic, partition, row, found))
        return [
            StoredRecord(
                topic=topic,
                partition=partition,
                offset=row.offset,
                timestamp_ms=row.timestamp_ms,
                value=value,
                key=row.key,
                headers=decode_headers(row.headers),
            )
            for row, value in zip(rows, values, strict=True)
        ]

    def _damage(self, topic: str, partition: int, row: Row, found: str) -> str:
        path = segment_path(self._layout.segments, row.segment)
        return (
            f"{topic}[{partition}] offset {row.offset}: expected {row.length} bytes with CRC-32 "
            f"{row.checksum:08x} at {row.position} of {path}, found {found}; the file was damaged "
            f"after it was written, restore it or check the disk"
        )

    def close(self) -> None:
        """Release everything."""
        self._segments.close()
        self.index.close()


def is_intact(row: Row, value: bytes) -> bool:
    """Whether these are the bytes that were appended."""
    return len(value) == row.length and zlib.crc32(value) == row.checksum


def _values(rows: Sequence[Row], read: _ReadBytes) -> list[bytes]:
    """The values of rows; neighbours are read in one call when they are small."""
    values: list[bytes] = []
    while len(values) < len(rows):
        run = _run(rows, len(values))
        start = run[0].position
        try:
            data = read(run[0].segment, start, run[-1].position + run[-1].length - start)
        except FileNotFoundError as error:
            raise _MissingFileError(run[0]) from error
        if len(run) == 1:
            values.append(data)
        else:
            values += [data[r.position - start : r.position - start + r.length] for r in run]
    return values


def _run(rows: Sequence[Row], first: int) -> Sequence[Row]:
    start = rows[first]
    end = start.position + start.length
    last = first + 1
    for row in rows[last:]:
        adjacent = row.segment == start.segment and row.position == end
        if not adjacent or end + row.length - start.position > _READ_AHEAD:
            break
        end += row.length
        last += 1
    return rows[first:last]


class _MissingFileError(Exception):
    """The file of a record is not there."""

    def __init__(self, row: Row) -> None:
        super().__init__(row)
        self.row = row
