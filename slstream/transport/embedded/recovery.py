"""Opening a log: create what is missing, and cut off what a power cut has damaged.

After a power cut the index is some state that it had before, because its WAL is checksummed and
valid up to a point. It may name payload bytes that never reached the disk. Bytes below a segment's
durable mark did: the mark is committed after they were synced. So the rows above the marks are
checked, and each partition is cut at its first bad record, because nothing may follow a lost one.

This runs while other processes append, and without holding them up. A row is committed after its
bytes were written, so as long as the system has not gone down, the bytes of every row that is seen
are intact in the page cache, and nothing is cut. If a row is bad, then every process that appends
now has opened the log after the power cut, so it has found the same row and cut it before its
first append, or finds it gone. Hence a cut looks again, under the write lock, whether the very row
(same offset and same place) still exists: if not, another process has cut it and what has its
offset now is a new, good record.
"""

from __future__ import annotations

import contextlib
import logging
import os

from slstream.errors import TransportError
from slstream.transport.embedded.folders import create_folder, sync_file
from slstream.transport.embedded.index import Index, Row
from slstream.transport.embedded.layout import Layout
from slstream.transport.embedded.lock import FileLock, Patience
from slstream.transport.embedded.reader import is_intact
from slstream.transport.embedded.retention import cut
from slstream.transport.embedded.segments import (
    SegmentReader,
    remove_if_unused,
    segment_path,
)

_log = logging.getLogger(__name__)


def create(layout: Layout, patience: Patience) -> None:
    """Create the directory and the index if they are missing; several processes may do so at once.

    Raises:
        TransportTimeout: another process holds the write lock.
        OSError: a directory cannot be created.
        sqlite3.Error: the index cannot be created.
    """
    create_folder(layout.segments)
    layout.wake.mkdir(exist_ok=True)
    lock = FileLock(layout.write_lock)
    try:
        with lock.within(patience):
            Index.create(layout.index)
    finally:
        lock.close()
    # Also when the index was there: who created it may have died before this.
    sync_file(layout.directory)


def require(layout: Layout) -> None:
    """Refuse a directory that holds no log.

    Raises:
        TransportError: there is no index.
    """
    if not layout.index.exists():
        raise TransportError(
            f"no log in {layout.directory}: expected {layout.index.name} there; a log is created "
            f"when it is opened for writing"
        )


def recover(layout: Layout, patience: Patience) -> None:
    """Cut partitions at their first damaged record, and remove payload that nothing refers to.

    Raises:
        TransportTimeout: another process holds the write lock.
        OSError: a file cannot be read or synced.
        sqlite3.Error: the index cannot be read or written.
    """
    index = Index(layout.index)
    lock = FileLock(layout.write_lock)
    try:
        index.synchronous(full=True)
        damaged, refreshed = _check_unproven(layout, index)
        if damaged or refreshed:
            with lock.within(patience):
                _repair(layout, index, damaged, refreshed)
        with lock.within(patience):
            _remove_orphans(layout, index)
    finally:
        lock.close()
        index.close()


def _check_unproven(layout: Layout, index: Index) -> tuple[list[Row], set[int]]:
    """Read what may be lost.

    Returns:
        The first damaged row of each partition, and the segments of which an earlier sync failed.
        The page cache may be all that has their bytes, so they are written again.
    """
    failed = {key for key, _, bad in index.unproven_segments() if bad}
    damaged: dict[int, Row] = {}
    segments = SegmentReader(layout.segments)
    try:
        for row in index.unproven_rows():
            value = _bytes_or_nothing(segments, row)
            if value is None or not is_intact(row, value):
                first = damaged.setdefault(row.partition, row)
                if row.offset < first.offset:
                    damaged[row.partition] = row
            elif row.segment in failed:
                _write_again(layout, row, value)
    finally:
        segments.close()
    for segment in failed:
        with contextlib.suppress(FileNotFoundError):
            sync_file(segment_path(layout.segments, segment))
    return list(damaged.values()), failed


def _bytes_or_nothing(segments: SegmentReader, row: Row) -> bytes | None:
    try:
        return segments.read(row.segment, row.position, row.length)
    except FileNotFoundError:
        return None


def _write_again(layout: Layout, row: Row, value: bytes) -> None:
    fd = os.open(segment_path(layout.segments, row.segment), os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.pwrite(fd, value, row.position)
    finally:
        os.close(fd)


def _repair(layout: Layout, index: Index, damaged: list[Row], refreshed: set[int]) -> None:
    with index.transaction() as db:
        for row in damaged:
            if index.row(row.partition, row.offset) == row:
                count = cut(db, row.partition, row.offset)
                _log.warning(
                    "%s: removed %d records of %s from offset %d on, which had not reached the "
                    "disk when the system went down",
                    layout.directory,
                    count,
                    index.partition_name(row.partition),
                    row.offset,
                )
        db.executemany(
            "UPDATE segments SET durable = length, failed = 0 WHERE id = ?",
            [(segment,) for segment in refreshed],
        )
    if refreshed:
        # What failed may have been the WAL: put all of it into the database file.
        index.checkpoint("TRUNCATE")


def _remove_orphans(layout: Layout, index: Index) -> None:
    """Remove payload files without a row: their creation was lost in a power cut.

    The write lock keeps files that are being created out of sight.
    """
    known = index.segments()
    for path in layout.segments.glob("*.segment"):
        if path.stem.isdigit() and int(path.stem) not in known:
            remove_if_unused(layout.segments, int(path.stem))
