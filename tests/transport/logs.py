"""Logs for the tests of this package."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any

from slstream.testing.transport_log import read_all, values
from slstream.transport.contract import Record, Transport
from slstream.transport.embedded.transport import EmbeddedTransport

__all__ = ["append", "contents", "open_log", "read_all", "run", "values"]


def run(body: Coroutine[Any, Any, None]) -> None:
    asyncio.run(body, debug=True)


open_log = EmbeddedTransport.open


async def append(log: Transport, topic: str, items: Sequence[bytes]) -> None:
    """Append one by one."""
    for item in items:
        await log.append(topic, [Record(value=item)])


def contents(path: Path, topic: str = "t") -> list[bytes]:
    """All values of a topic, read through a transport of their own."""
    found: list[bytes] = []

    async def body() -> None:
        async with await open_log(path) as log:
            found.extend(values(await read_all(log, topic)))

    run(body())
    return found
