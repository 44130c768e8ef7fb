"""Files that are replaced as a whole or not at all."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
from pathlib import Path

from slstream.errors import StorageError
from slstream.transport.embedded.folders import create_folder, sync_file


def write_atomically(path: Path, data: bytes) -> None:
    """Replace a file so that a crash or power cut leaves the old content or the new.

    Several processes may do so at once, also in containers that share a disk: each writes to a
    temporary file of its own, which it holds a lock on. Those that killed ones have left behind are
    removed first: a full disk needs the room.

    Raises:
        StorageError: the disk refuses. The old content stands, or the new one where only the folder
            could not be forced to the disk.
    """
    try:
        create_folder(path.parent)
        _remove_leftovers(path)
        temporary, descriptor = _create_beside(path)
        try:
            with open(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
                temporary.replace(path)
        except BaseException:  # of Ctrl-C, too, nothing is left
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise
        sync_file(path.parent)
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error}") from error


def _create_beside(path: Path) -> tuple[Path, int]:
    """A new temporary file and its descriptor, which holds the lock that says it is in use."""
    while True:
        temporary = path.with_name(f".{path.name}.{os.urandom(4).hex()}.tmp")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        # Where a file system knows no locks, nobody can take one to remove the file, either.
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        if os.fstat(descriptor).st_nlink:
            return temporary, descriptor
        os.close(descriptor)  # It was removed before it was locked.


def _remove_leftovers(path: Path) -> None:
    """Remove temporary files of a file that no process holds; of what fails, nothing depends."""
    ours = re.compile(rf"\.{re.escape(path.name)}\.[0-9a-f]+\.tmp")
    for name in os.listdir(path.parent):
        if not ours.fullmatch(name):
            continue
        with contextlib.suppress(OSError):
            descriptor = os.open(path.parent / name, os.O_RDONLY | os.O_CLOEXEC)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                (path.parent / name).unlink()
            finally:
                os.close(descriptor)
