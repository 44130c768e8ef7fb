"""A file that is touched as long as a party's event loop runs, for whoever watches the process."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from contextlib import suppress
from pathlib import Path
from time import time
from typing import TypeVar

BEAT_S = 2.0

_NAME = "alive"

_T = TypeVar("_T")


async def beating(folder: Path, work: Awaitable[_T]) -> _T:
    """Await ``work``, and touch ``folder/alive`` every two seconds meanwhile.

    The touch comes from the event loop itself: a loop that is stuck touches nothing. Nothing is
    said about peers, brokers or disks; a folder that cannot be written to is left to ``work``,
    which says so better. A process that ends in order leaves no file behind.
    """
    path = folder / _NAME

    async def beat() -> None:
        while True:
            with suppress(OSError):
                path.touch()
            await asyncio.sleep(BEAT_S)

    beats = asyncio.create_task(beat())
    try:
        return await work
    finally:
        beats.cancel()
        with suppress(OSError):
            path.unlink()


def ages_s(directory: Path) -> dict[str, float]:
    """Seconds since the last beat of each party that runs in a run's folder, or was killed there.

    By the clock of the wall, as it is between processes: one that was set meanwhile shows once.

    Raises:
        OSError: the folder cannot be read.
    """
    now = time()
    found = {}
    for path in directory.glob(f"*/{_NAME}"):
        with suppress(FileNotFoundError):  # it has just ended
            found[path.parent.name] = abs(now - path.stat().st_mtime)
    return found
