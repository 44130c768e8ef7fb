"""Moving the index's write-ahead log into its database file, beside the appends."""

from __future__ import annotations

from slstream.transport.embedded.index import Index
from slstream.transport.embedded.layout import Layout
from slstream.transport.embedded.lock import FileLock

_MAX_WAL_PAGES = 8192  # 32 MiB


class Checkpointer:
    """Does SQLite's checkpoints, so that no append waits for their disk writes.

    SQLite up to 3.51.2 has a race (https://sqlite.org/wal.html#walresetbug) that can lose commits:
    a checkpoint that starts when the WAL is wholly checkpointed already, while another process
    resets the WAL. It cannot happen here: automatic checkpoints are off, one process at a time
    checkpoints (``checkpoint.lock``), and each one first commits something. So the WAL holds
    something that is not checkpointed when the checkpoint starts, and nobody resets such a WAL.
    (When the last connection closes, SQLite checkpoints with the database locked exclusively.)
    """

    def __init__(self, layout: Layout) -> None:
        """Remember where; connects at the first checkpoint. Used by one thread."""
        self._layout = layout
        self._index: Index | None = None
        self._write_lock = FileLock(layout.write_lock)
        self._checkpoint_lock = FileLock(layout.checkpoint_lock)

    def checkpoint(self) -> None:
        """Checkpoint, unless another process is at it.

        Raises:
            sqlite3.Error: the disk failed.
        """
        if self._index is None:
            self._index = Index(self._layout.index)
            self._index.synchronous(full=False)
        if not self._checkpoint_lock.try_acquire():
            return
        try:
            self._commit_something(self._index)
            if self._index.checkpoint("PASSIVE") > _MAX_WAL_PAGES:
                # Appends never paused, so there was always something new in the WAL, and SQLite
                # could not start it anew: hold them up for the little that is left.
                with self._write_lock:
                    with self._index.transaction() as db:
                        db.execute("UPDATE marks SET forced = forced + 1")
                    self._index.checkpoint("TRUNCATE")
        finally:
            self._checkpoint_lock.release()

    def _commit_something(self, index: Index) -> None:
        with self._write_lock, index.transaction() as db:
            db.execute("UPDATE marks SET forced = forced + 1")

    def close(self) -> None:
        """Release everything."""
        if self._index is not None:
            self._index.close()
        self._write_lock.close()
        self._checkpoint_lock.close()
