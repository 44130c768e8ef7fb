"""The files of an embedded log."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the parts of a log lie in its directory."""

    directory: Path

    @property
    def index(self) -> Path:
        """The SQLite file."""
        return self.directory / "index.sqlite"

    @property
    def wal(self) -> Path:
        """What was committed last, until it is moved into the SQLite file."""
        return self.directory / "index.sqlite-wal"

    @property
    def segments(self) -> Path:
        """The directory of payload files."""
        return self.directory / "segments"

    @property
    def wake(self) -> Path:
        """The directory of sockets."""
        return self.directory / "wake"

    @property
    def write_lock(self) -> Path:
        """Held around every write transaction."""
        return self.directory / "write.lock"

    @property
    def checkpoint_lock(self) -> Path:
        """Held while the WAL is moved."""
        return self.directory / "checkpoint.lock"
