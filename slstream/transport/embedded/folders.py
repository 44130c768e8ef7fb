"""Files and directories that a power cut does not take away again."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def create_folder(path: Path) -> None:
    """Create a directory with its parents, all of them on the disk when this returns.

    From the top down, each on the disk before the next one is made: so when another process is at
    it too, or was killed at it, only the last one that is found may be not on the disk yet.

    Raises:
        OSError: a directory cannot be created or synced.
    """
    missing = []
    while not path.is_dir() and path != path.parent:
        missing.append(path)
        path = path.parent
    # Who may not read a directory cannot sync it. Then it is above what is ours.
    with contextlib.suppress(PermissionError):
        sync_file(path.parent)
    for each in reversed(missing):
        each.mkdir(exist_ok=True)
        sync_file(each.parent)


def sync_file(path: Path) -> None:
    """Force a file with its attributes, or the entries of a directory, to the disk.

    Raises:
        OSError: it cannot be opened or synced.
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def sync_content(path: Path) -> None:
    """Force the content of a file to the disk, whoever wrote it.

    Raises:
        OSError: it cannot be opened or synced.
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fdatasync(fd)
    finally:
        os.close(fd)
