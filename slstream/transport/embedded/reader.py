"""Reading records: places from the index, bytes from the segments, checksums compared."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

from slstream.errors import TransportBroken
from slstream.transport.contract import StoredRecord
from slstream.transport.embedded.index import Index, Row, decode_headers
from slstream.transport.embedded.layout import Layout
from slstream.transport.embedded.segments import SegmentReader, segment_path

_READ_AHEAD = 65_536


class LogReader:
    """The reading side of one transport object. Used by one thread."""

    def __init__(self, layout: Layout, *, read_only: bool) -> None:
        self._layout = layout
        self._index = Index(layout.index, read_only=read_only)
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
            rows = self._index.rows(topic, partition, offset, max_records, max_bytes)
            if missing is not None and missing in rows:
                raise TransportBroken(self._damage(topic, partition, missing, "a missing file"))
            try:
                values = self._values(topic, partition, rows)
            except _Missing as error:
                # Retention removed the file after the look into the index. If the index still
                # names it now, it is lost.
                missing = error.row
                continue
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

    def _values(self, topic: str, partition: int, rows: Sequence[Row]) -> list[bytes]:
        values: list[bytes] = []
        while len(values) < len(rows):
            values += self._read_run(rows, len(values))
        for row, value in zip(rows, values, strict=True):
            if not is_intact(row, value):
                found = f"{len(value)} bytes with CRC-32 {zlib.crc32(value):08x}"
                raise TransportBroken(self._damage(topic, partition, row, found))
        return values

    def _read_run(self, rows: Sequence[Row], first: int) -> list[bytes]:
        """Read neighbours in one call when they are small."""
        start = rows[first]
        end = start.position + start.length
        last = first + 1
        while last < len(rows) and _follows(rows[last], start.segment, end):
            if end + rows[last].length - start.position > _READ_AHEAD:
                break
            end += rows[last].length
            last += 1
        try:
            data = self._segments.read(start.segment, start.position, end - start.position)
        except FileNotFoundError as error:
            raise _Missing(start) from error
        if last == first + 1:
            return [data]
        return [
            data[row.position - start.position : row.position - start.position + row.length]
            for row in rows[first:last]
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
        self._index.close()


def is_intact(row: Row, value: bytes) -> bool:
    """Whether these are the bytes that were appended."""
    return len(value) == row.length and zlib.crc32(value) == row.checksum


def _follows(row: Row, segment: int, position: int) -> bool:
    return row.segment == segment and row.position == position


class _Missing(Exception):
    """The file of a record is not there."""

    def __init__(self, row: Row) -> None:
        super().__init__(row)
        self.row = row
