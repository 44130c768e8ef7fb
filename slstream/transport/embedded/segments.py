"""Payload files: record values one after the other, nothing else.

Each file is written by one transport object, and only appended to, so writers need no lock among
each other. What a byte range means, and its checksum, is in the index.
"""

from __future__ import annotations

import fcntl
import os
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from pathlib import Path

SEGMENT_BYTES = 64 << 20
"""A file that has reached this is not appended to any more."""

_JOIN_BYTES = 65_536


def segment_path(directory: Path, segment: int) -> Path:
    """Where a segment lies."""
    return directory / f"{segment:012d}.segment"


class SegmentWriter:
    """One open payload file. Holds a lock on it, which tells cleaners that it is in use."""

    def __init__(self, directory: Path, segment: int) -> None:
        """Create the file; one of that name that exists is garbage from before a power cut."""
        self.segment = segment
        self.path = segment_path(directory, segment)
        self.path.unlink(missing_ok=True)
        self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self.length = 0

    @property
    def full(self) -> bool:
        """Whether the next values belong into another file."""
        return self.length >= SEGMENT_BYTES

    def append(self, values: Sequence[bytes]) -> int:
        """Write values one after the other; returns the position of the first.

        Raises:
            OSError: the file may end in a part of them, which nothing refers to.
        """
        start = self.length
        for chunk in _chunks(values):
            self._write_all(chunk)
        return start

    def _write_all(self, data: bytes) -> None:
        written = os.pwrite(self._fd, data, self.length)
        while written < len(data):
            # A full disk or a file limit shows as a short write first, as an error the next time.
            written += os.pwrite(self._fd, memoryview(data)[written:], self.length + written)
        self.length += len(data)

    def sync(self) -> None:
        """Force the content to the disk.

        Raises:
            OSError: the content may be lost though the page cache still shows it: never try again.
        """
        os.fdatasync(self._fd)

    def close(self) -> None:
        """Release the file; its content stays."""
        os.close(self._fd)


def _chunks(values: Sequence[bytes]) -> Iterator[bytes]:
    """The values in pieces that are worth a system call: small neighbours are joined.

    One ``pwritev`` for all would save the copy, but takes Linux (6.18, ext4) ten times the time of
    single writes when its buffers are large.
    """
    run: list[bytes] = []
    size = 0
    for value in values:
        if run and size + len(value) > _JOIN_BYTES:
            yield run[0] if len(run) == 1 else b"".join(run)
            run, size = [], 0
        run.append(value)
        size += len(value)
    if run:
        yield run[0] if len(run) == 1 else b"".join(run)


class SegmentReader:
    """Reads byte ranges of segments; keeps the last files open. Used by one thread."""

    def __init__(self, directory: Path, *, keep: int = 32) -> None:
        self._directory = directory
        self._keep = keep
        self._fds: OrderedDict[int, int] = OrderedDict()
        self._buffer = bytearray()

    def read(self, segment: int, position: int, length: int) -> bytes:
        """The bytes of a range; fewer when the file is shorter.

        Raises:
            FileNotFoundError: the segment was removed.
            OSError: the disk failed.
        """
        fd = self._open(segment)
        data = os.pread(fd, length, position)
        if len(data) == length:
            return data
        parts = [data]
        while data and sum(map(len, parts)) < length:
            done = sum(map(len, parts))
            data = os.pread(fd, length - done, position + done)
            parts.append(data)
        return b"".join(parts)

    def read_cached(self, segment: int, position: int, length: int) -> bytes:
        """The bytes of a range, if the page cache has them all.

        Raises:
            OSError: it does not, or the file system cannot tell.
        """
        if len(self._buffer) < length:
            self._buffer = bytearray(length)
        with memoryview(self._buffer)[:length] as data:
            count = os.preadv(self._open(segment), [data], position, os.RWF_NOWAIT)
            if count < length:
                raise BlockingIOError(f"{count} of {length} bytes are in the page cache")
            return bytes(data)

    def _open(self, segment: int) -> int:
        fd = self._fds.get(segment)
        if fd is not None:
            self._fds.move_to_end(segment)
            return fd
        fd = os.open(segment_path(self._directory, segment), os.O_RDONLY | os.O_CLOEXEC)
        self._fds[segment] = fd
        if len(self._fds) > self._keep:
            os.close(self._fds.popitem(last=False)[1])
        return fd

    def close(self) -> None:
        """Release all files."""
        while self._fds:
            os.close(self._fds.popitem()[1])


def remove_if_unused(directory: Path, segment: int) -> bool:
    """Delete a payload file unless a living transport object may still append to it."""
    path = segment_path(directory, segment)
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return True
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    else:
        path.unlink(missing_ok=True)
        return True
    finally:
        os.close(fd)
