"""A party's process that is to be killed: surely this one, and no other that got its number."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Self

END_S = 10.0
"""How long the kernel may take to end a process that was killed."""


def runs_party(command: Sequence[str], party: str, directory: Path) -> bool:
    """Whether a command line is that of a party of the run in ``directory``.

    Args:
        command: the arguments, the program's name included.
        party: its name.
        directory: of the run, absolute.
    """
    words = list(command)
    try:
        verb = words.index("party")
        place = words.index("--dir", verb)
        program, name, value = words[verb - 1], words[verb + 1], words[place + 1]
    except (ValueError, IndexError):
        return False
    return (Path(program).name, name, value) == ("slstream", party, str(directory))


class PartyProcess:
    """A handle that stays with one process, whatever its number is given to later."""

    def __init__(self, descriptor: int) -> None:
        """Use :meth:`find`."""
        self._descriptor = descriptor

    @classmethod
    def find(cls, pid: int, party: str, directory: Path) -> Self | None:
        """The process of this number, when it lives and is that party's.

        Args:
            pid: as the party has claimed it.
            party: its name.
            directory: of the run, absolute.
        """
        try:
            descriptor = os.pidfd_open(pid)
        except (OSError, OverflowError):
            return None
        process = cls(descriptor)
        # Read after the handle was taken: who has the number now is who the handle is for.
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
        except OSError:
            command = ""
        if not runs_party(command.split("\0"), party, directory):
            process.close()
            return None
        return process

    def kill(self) -> None:
        """Send SIGKILL; does nothing when it has ended by itself."""
        try:
            signal.pidfd_send_signal(self._descriptor, signal.SIGKILL)
        except ProcessLookupError:
            return

    async def ended(self) -> None:
        """Wait until it is no more.

        Raises:
            TimeoutError: it did not end in time.
        """
        loop = asyncio.get_running_loop()
        end = asyncio.Event()
        loop.add_reader(self._descriptor, end.set)
        try:
            await asyncio.wait_for(end.wait(), END_S)
        finally:
            loop.remove_reader(self._descriptor)

    def close(self) -> None:
        """Release the handle."""
        os.close(self._descriptor)
