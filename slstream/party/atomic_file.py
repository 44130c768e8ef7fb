"""Files that are replaced as a whole or not at all."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from slstream.errors import StorageError
from slstream.transport.embedded.folders import create_folder


def write_atomically(path: Path, data: bytes) -> None:
    """Replace a file so that a crash or power cut leaves the old content or the new.

    Two processes may do so at once: each writes to a temporary file of its own. Those that killed
    ones have left behind are removed first: a full disk needs the room.

    Raises:
        StorageError: the disk refuses; the old content stands.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        create_folder(path.parent)
        for other in path.parent.glob(f".{path.name}.*tmp"):
            if not _is_being_written(other):
                other.unlink(missing_ok=True)
        try:
            with temporary.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except OSError:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise
        directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error}") from error


def _is_being_written(temporary: Path) -> bool:
    """Whether the process that a temporary file is named after lives."""
    try:
        os.kill(int(temporary.name.split(".")[-2]), 0)
    except (ValueError, ProcessLookupError):
        return False
    except PermissionError:
        pass
    return True
