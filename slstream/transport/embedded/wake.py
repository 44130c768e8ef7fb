"""Telling other processes that the log has grown: empty datagrams on unix sockets.

A waiting transport binds a socket in the log's ``wake`` directory; after a commit the writer sends
an empty datagram to every socket there. A datagram says only "look again", so a lost or spurious
one is harmless: who waits also looks by itself now and then.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
from pathlib import Path

_SUFFIX = ".socket"


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

    def drain(self) -> None:
        """Take all datagrams; call it before looking, so that a later append wakes again."""
        with contextlib.suppress(BlockingIOError):
            while True:
                self._socket.recv(1)

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

    def wake_all(self, own_name: str | None) -> None:
        """Wake all but ``own_name``; never blocks and never fails.

        Those that were there the last time come first: they need not wait for the listing.
        """
        known = list(self._sockets)
        for name in known:
            self._wake(name)
        present = {name for name in os.listdir(self._directory_fd) if name.endswith(_SUFFIX)}
        for name in known:
            if name not in present:
                self._forget(name)
        for name in present.difference(known):
            if name != own_name:
                self._wake(name)

    def _wake(self, name: str) -> None:
        try:
            if name not in self._sockets:
                self._sockets[name] = _datagram_socket()
                self._sockets[name].connect(_address(self._directory_fd, name))
            self._sockets[name].send(b"")
        except BlockingIOError:
            return  # Its queue is full, so it has yet to look anyway.
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
