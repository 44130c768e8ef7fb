"""The other process of a measurement: a module of this package that prints lines of JSON."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from slstream.errors import TransportTimeout

DEADLINE_S = 30.0
"""How long anything that the other process does may take."""


class Peer:
    """A process that was started with :func:`start_peer`."""

    def __init__(self, process: asyncio.subprocess.Process, pipe: asyncio.StreamReader) -> None:
        """Use :func:`start_peer`."""
        self._process = process
        self._pipe = pipe

    async def line(self) -> dict[str, Any]:
        """The next line that it prints: a JSON object.

        Raises:
            TransportTimeout: it printed none in time, or ended.
        """
        try:
            async with asyncio.timeout(DEADLINE_S):
                line = await self._pipe.readline()
        except TimeoutError:
            raise TransportTimeout(
                f"expected the other process to answer within {DEADLINE_S:g} s, found nothing"
            ) from None
        if not line:
            raise TransportTimeout(
                "the other process ended before it was done; its standard error says why"
            )
        document: dict[str, Any] = json.loads(line)
        return document

    async def end(self) -> None:
        """Wait until it has ended by itself; a stuck one is ended when its context is left."""
        async with asyncio.timeout(DEADLINE_S):
            await self._process.wait()


@asynccontextmanager
async def start_peer(module: str, *arguments: str) -> AsyncIterator[Peer]:
    """Run ``python -m module arguments``, which says something once it is ready."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", module, *arguments),
        stdout=asyncio.subprocess.PIPE,
        limit=1 << 24,
    )
    try:
        if process.stdout is None:
            raise TransportTimeout("the other process has no standard output")
        peer = Peer(process, process.stdout)
        await peer.line()
        yield peer
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def tell(document: dict[str, Any]) -> None:
    """Print a line for the process that started this one."""
    sys.stdout.write(json.dumps(document) + "\n")
    sys.stdout.flush()
