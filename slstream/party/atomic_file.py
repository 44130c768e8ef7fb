"""Files that are replaced as a whole or not at all."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from slstream.errors import StorageError
from slstream.transport.embedded.folders import create_folder, sync_file


def write_atomically(path: Path, data: bytes) -> None:
    """Replace a file so that a crash or power cut leaves the old content or the new.

    The folder is made where it is missing.

    Raises:
        StorageError: see :func:`replacing`.
    """
    try:
        create_folder(path.parent)
    except OSError as error:
        raise _failure(path, error) from error
    with replacing(path) as file:
        file.write(data)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A temporary file beside ``path`` that takes its place when the block ends without an error.

    It is on the disk by then. Several processes may write at once, also in containers that share a
    disk: each has a temporary file of its own, which it holds a lock on. Those that killed ones
    have left behind are removed first: a full disk needs the room.

    Raises:
        StorageError: the disk refuses. The old content stands, or the new one where only the folder
            could not be forced to the disk.
    """
    try:
        _remove_leftovers(path)
        file = _create_beside(path)
        try:
            with file:
                yield file
                file.flush()
                os.fsync(file.fileno())
                os.replace(file.name, path)
        except BaseException:  # of Ctrl-C, too, nothing is left
            with contextlib.suppress(OSError):
                os.unlink(file.name)
            raise
        sync_file(path.parent)
    except OSError as error:
        raise _failure(path, error) from error


def _failure(path: Path, error: OSError) -> StorageError:
    return StorageError(f"cannot write {path}: {error}")


def _create_beside(path: Path) -> BinaryIO:
    """A new temporary file, with the lock that says it is in use."""
    while True:
        file = path.with_name(f".{path.name}.{os.urandom(4).hex()}.tmp").open("xb")
        # Where a file system knows no locks, nobody can take one to remove the file, either.
        with contextlib.suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX)
        if os.fstat(file.fileno()).st_nlink:
            return file
        file.close()  # It was removed before it was locked.


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
