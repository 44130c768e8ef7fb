"""Files that are replaced as a whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

from slstream.errors import StorageError
from slstream.transport.embedded.folders import create_folder


def write_atomically(path: Path, data: bytes) -> None:
    """Replace a file so that a crash or power cut leaves the old content or the new.

    Raises:
        StorageError: the disk refuses; the old content stands.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        create_folder(path.parent)
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error}") from error
