"""An exclusive lock between processes, on a file."""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
import time
import weakref
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from slstream.errors import TransportTimeout

_POLL_S = 0.002


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a thread waits for a lock."""

    seconds: float
    gone: threading.Event = field(default_factory=threading.Event)
    """Set when nobody waits for the thread any more."""


class FileLock:
    """Blocks without polling, and is released by the kernel when its process dies.

    SQLite's own lock polls with growing sleeps when it is taken, which would cost milliseconds
    whenever two parties append at the same time.

    ``flock`` belongs to the open file, which a forked child shares: a child that outlives a
    killed parent would hold the lock for ever. So children close it right after the fork.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        _open_locks.add(self)

    def try_acquire(self) -> bool:
        """Take the lock if nobody holds it."""
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    @contextlib.contextmanager
    def within(self, patience: Patience) -> Iterator[None]:
        """Hold the lock, polling for it: for a thread that must not be left behind.

        Raises:
            TransportTimeout: others held it for too long, or nobody waits any more.
        """
        deadline = time.monotonic() + patience.seconds
        while not self.try_acquire():
            if patience.gone.wait(_POLL_S) or time.monotonic() > deadline:
                raise stuck("take the write lock", patience.seconds, self._path)
        try:
            yield
        finally:
            self.release()

    def release(self) -> None:
        """Let the next one in."""
        fcntl.flock(self._fd, fcntl.LOCK_UN)

    def close(self) -> None:
        """Release the lock and the file. Idempotent."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def __enter__(self) -> None:
        fcntl.flock(self._fd, fcntl.LOCK_EX)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()


def stuck(what: str, seconds: float, lock: Path) -> TransportTimeout:
    """Something that needs a lock, and could not be done."""
    return TransportTimeout(
        f"could not {what} within {seconds:g} s: the disk hangs, or a process that holds {lock} is "
        "stopped; /proc/locks names it. Let it go on or kill it"
    )


_open_locks: weakref.WeakSet[FileLock] = weakref.WeakSet()


def _close_inherited() -> None:
    for lock in list(_open_locks):
        lock.close()


os.register_at_fork(after_in_child=_close_inherited)
