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
        self._socket = _datagram_socket()

    def wake_all(self, own_name: str | None) -> None:
        """Wake all but ``own_name``; never blocks and never fails."""
        for name in os.listdir(self._directory_fd):
            if name.endswith(_SUFFIX) and name != own_name:
                self._wake(name)

    def _wake(self, name: str) -> None:
        try:
            self._socket.sendto(b"", _address(self._directory_fd, name))
        except ConnectionRefusedError:
            # Left behind by a process that was killed.
            with contextlib.suppress(OSError):
                os.unlink(name, dir_fd=self._directory_fd)
        except OSError:
            # A full queue means that the listener has yet to look anyway.
            return

    def close(self) -> None:
        """Release the socket."""
        self._socket.close()
        os.close(self._directory_fd)
