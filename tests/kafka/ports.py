"""TCP ports that a broker keeps over its restarts."""

from __future__ import annotations

import random
import socket
from types import TracebackType
from typing import Self

__all__ = ["LOCALHOST", "Port"]

LOCALHOST = "127.0.0.1"

# Below what systems give to outgoing connections. A client that dials a dead broker's port again
# and again would otherwise be given that very port as its own one day, and connect to itself.
_FIRST, _END = 20_000, 30_000
_ATTEMPTS = 200


class Port:
    """A TCP port of the loopback interface that is yours until it is closed.

    Held by a UDP socket of the same number: two processes cannot both hold it, the kernel frees
    it when its process dies, and TCP's side stays free for a broker to come and go.
    """

    def __init__(self) -> None:
        choose = random.SystemRandom()
        for _ in range(_ATTEMPTS):
            self.number = choose.randrange(_FIRST, _END)
            self._held = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            try:
                self._held.bind((LOCALHOST, self.number))
                if _is_free(self.number):
                    return
            except OSError:
                pass
            self._held.close()
        raise OSError(f"expected a free port from {_FIRST} to {_END}, found none in {_ATTEMPTS}")

    @property
    def address(self) -> str:
        """As ``host:port``."""
        return f"{LOCALHOST}:{self.number}"

    def close(self) -> None:
        """Let others have it."""
        self._held.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _is_free(number: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOCALHOST, number))
        except OSError:
            return False
    return True
