"""Forcing what is committed to the disk, whoever wrote it."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator, Mapping

from slstream.errors import TransportBroken
from slstream.transport.embedded.folders import sync_content, sync_file
from slstream.transport.embedded.index import Index
from slstream.transport.embedded.layout import Layout
from slstream.transport.embedded.lock import FileLock
from slstream.transport.embedded.segments import segment_path


class Forcer:
    """Syncs payload files and the index for one thread, without holding up who appends.

    A row is committed once it is in SQLite's WAL, and survives a power cut once the WAL is synced,
    or was moved into the database, which SQLite syncs itself. So an ``fsync`` of the WAL file
    forces every earlier commit of every process, and needs no transaction: appends go on beside it.
    """

    def __init__(self, layout: Layout, index: Index, lock: FileLock) -> None:
        """Use a connection and a lock of the calling thread's own."""
        self._layout = layout
        self._index = index
        self._lock = lock
        self._suspect: set[int] = set()
        self._wal_is_found = False

    def force(self) -> dict[int, int]:
        """Force to disk every record that the index shows now.

        The records of other processes that precede ours in a partition must survive for ours to
        survive; hence all segments are synced, and then the index.

        Returns:
            By segment, how many bytes are known to be on the disk now.

        Raises:
            TransportBroken: an earlier attempt has failed, in this or another process.
            OSError: this one has.
        """
        with self.telling_of_failures():
            proven = self.sync_segments()
            self._suspect.update(proven)
            self.sync_index()
            self._suspect.difference_update(proven)
            if proven:
                # Saves a recovery the work of looking; if it is lost, nothing else is.
                with self._lock, self._index.transaction() as db:
                    prove(db, proven)
        return proven

    def sync_index(self) -> None:
        """Force all earlier commits of all processes to the disk.

        Raises:
            OSError: the disk failed.
        """
        sync_content(self._layout.wal)
        if not self._wal_is_found:
            sync_file(self._layout.wal.parent)
            # It stays the same file while this connection is open.
            self._wal_is_found = True

    def sync_segments(self) -> dict[int, int]:
        """Sync the segments that need it; returns how many bytes of each are on the disk now.

        Raises:
            TransportBroken: an earlier attempt has failed, in this or another process.
            OSError: this one has.
        """
        proven = {}
        for key, length, failed in self._index.unproven_segments():
            path = segment_path(self._layout.segments, key)
            if failed:
                raise TransportBroken(
                    f"{path}: an earlier attempt to force it to the disk failed, in this or "
                    f"another process; stop all processes that use the log, check the disk, and "
                    f"open the log again"
                )
            self._suspect.add(key)
            # Retention may have removed it meanwhile: then no record refers to it any more.
            with contextlib.suppress(FileNotFoundError):
                sync_content(path)
            self._suspect.discard(key)
            proven[key] = length
        if proven:
            sync_file(self._layout.segments)
        return proven

    @contextlib.contextmanager
    def telling_of_failures(self, segment: int | None = None) -> Iterator[None]:
        """After a failure, keep other processes from believing in what could not be synced.

        After a failed sync the page cache still shows the data and a second sync reports success,
        so the failure must be told, and before anybody hears of it. The disk is failing: this is
        an attempt, no promise.

        Args:
            segment: one that is being synced by the caller.
        """
        own = set() if segment is None else {segment}
        try:
            yield
        except (OSError, sqlite3.Error):
            failed = [(key,) for key in own | self._suspect]
            with (
                contextlib.suppress(OSError, sqlite3.Error),
                self._lock,
                self._index.transaction() as db,
            ):
                db.executemany("UPDATE segments SET failed = 1 WHERE id = ?", failed)
            raise


def prove(db: sqlite3.Connection, proven: Mapping[int, int]) -> None:
    """Note which bytes are known to be on the disk."""
    db.executemany(
        "UPDATE segments SET durable = max(durable, ?) WHERE id = ? AND NOT failed",
        [(length, key) for key, length in proven.items()],
    )


class LogForcer:
    """What the thread that forces holds: see :meth:`Forcer.force`."""

    def __init__(self, layout: Layout) -> None:
        """Connect to a log that exists."""
        self._index = Index(layout.index)
        self._index.synchronous(full=False)
        self._lock = FileLock(layout.write_lock)
        self._forcer = Forcer(layout, self._index, self._lock)

    def force(self) -> dict[int, int]:
        """See :meth:`Forcer.force`."""
        return self._forcer.force()

    def close(self) -> None:
        """Release everything."""
        self._index.close()
        self._lock.close()
