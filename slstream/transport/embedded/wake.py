"""Telling other processes that the log has grown: datagrams on unix sockets.

A waiting transport binds a socket in the log's ``wake`` directory; after a commit the writer sends
a datagram to every socket there. It says which partitions now end where (ends never go back, and
ids of partitions are never used again, so it stays true), or nothing, which means "look into the
index". A lost one is harmless: who waits also looks by itself now and then.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import struct
from collections.abc import Mapping
from pathlib import Path

_SUFFIX = ".socket"
_END = struct.Struct("=QQ")
"""Id of a partition and its end offset."""
_MAX_ENDS = 64


def encode_ends(ends: Mapping[int, int]) -> bytes:
    """The content of a datagram; nothing when there are too many to name."""
    if len(ends) > _MAX_ENDS:
        return b""
    return b"".join(_END.pack(*item) for item in ends.items())


def decode_ends(data: bytes) -> dict[int, int]:
    """Inverse of :func:`encode_ends`; empty when it is not that."""
    return {} if len(data) % _END.size else dict(_END.iter_unpack(data))


def _address(directory_fd: int, name: str) -> str:
    # A socket address holds 107 bytes, less than many a path; the way through the directory's
    # descriptor is short wherever the log lies.
    return f"/proc/self/fd/{directory_fd}/{name}"


def _datagram_socket() -> socket.socket:
    return socket.socket(
        socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
    )


class WakeListener:
    """The socket on which one transport object is woken."""

    def __init__(self, directory: Path) -> None:
        """Bind a socket under a fresh name.

        Raises:
            OSError: the directory cannot be written.
        """
        self.name = secrets.token_hex(8) + _SUFFIX
        self._directory_fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._socket = _datagram_socket()
        try:
            # Between the creation of the file and that of the receiver a sender would be refused
            # and take the socket for a dead one: it gets its name only when it can receive.
            new = self.name + ".new"
            self._socket.bind(_address(self._directory_fd, new))
            os.rename(new, self.name, src_dir_fd=self._directory_fd, dst_dir_fd=self._directory_fd)
        except OSError:
            self._socket.close()
            os.close(self._directory_fd)
            raise

    def fileno(self) -> int:
        """The descriptor that becomes readable."""
        return self._socket.fileno()

    def receive(self) -> dict[int, int] | None:
        """Take one datagram: ends of partitions, empty for "look", ``None`` when there is none.

        Look after this call, not before: then a later append wakes again.
        """
        try:
            return decode_ends(self._socket.recv(_END.size * _MAX_ENDS))
        except BlockingIOError:
            return None

    def close(self) -> None:
        """Remove the socket."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.name, dir_fd=self._directory_fd)
        self._socket.close()
        os.close(self._directory_fd)


class WakeSender:
    """Wakes every listener of a log. Used by one thread."""

    def __init__(self, directory: Path) -> None:
        self._directory_fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._sockets: dict[str, socket.socket] = {}

    def wake_all(self, ends: Mapping[int, int], own_name: str | None) -> None:
        """Wake all but ``own_name``; never blocks and never fails.

        Those that were there the last time come first: they need not wait for the listing.
        """
        data = encode_ends(ends)
        known = list(self._sockets)
        for name in known:
            self._wake(name, data)
        try:
            names = os.listdir(self._directory_fd)
        except OSError:
            return  # Who is new is not woken; see above why that is harmless.
        present = {name for name in names if name.endswith(_SUFFIX)}
        for name in known:
            if name not in present:
                self._forget(name)
        for name in present.difference(known):
            if name != own_name:
                self._wake(name, data)

    def _wake(self, name: str, data: bytes) -> None:
        try:
            if name not in self._sockets:
                self._sockets[name] = _datagram_socket()
                self._sockets[name].connect(_address(self._directory_fd, name))
            self._sockets[name].send(data)
        except BlockingIOError:
            return  # Its queue is full; who takes several datagrams at once looks into the index.
        except ConnectionRefusedError:
            # Left behind by a process that was killed.
            self._forget(name)
            with contextlib.suppress(OSError):
                os.unlink(name, dir_fd=self._directory_fd)
        except OSError:
            self._forget(name)

    def _forget(self, name: str) -> None:
        if name in self._sockets:
            self._sockets.pop(name).close()

    def close(self) -> None:
        """Release the sockets."""
        for name in list(self._sockets):
            self._forget(name)
        os.close(self._directory_fd)
