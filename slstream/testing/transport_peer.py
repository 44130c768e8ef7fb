"""The other process of the transport tests: ``python -m slstream.testing.transport_peer``.

Prints one JSON value a line, so that a test can follow what it has done.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections import deque
from collections.abc import Awaitable, Callable

from slstream.transport.connect import open_transport
from slstream.transport.contract import Record, Transport

BATCH = 20
"""Records of one append of ``append_batches``."""
_BATCHES_IN_FLIGHT = 8


async def append_each(log: Transport, topic: str, count: int, label: str) -> None:
    """Append ``label:0``, ``label:1``... one by one; print each offset."""
    for i in range(count):
        _print(await log.append(topic, [Record(value=f"{label}:{i}".encode())]))


async def append_batches(log: Transport, topic: str, size: int, label: str) -> None:
    """Append batches of :data:`BATCH` records without end; print the number of each one sent.

    The values are ``label:<batch>:<place>:`` and filling up to ``size`` bytes.
    """
    batch = 0
    in_flight: deque[tuple[int, asyncio.Task[int]]] = deque()
    while True:
        records = [
            Record(value=f"{label}:{batch}:{place}:".encode().ljust(size, b"."))
            for place in range(BATCH)
        ]
        in_flight.append((batch, asyncio.create_task(log.append(topic, records))))
        batch += 1
        if len(in_flight) == _BATCHES_IN_FLIGHT:
            sent, task = in_flight.popleft()
            await task
            _print(sent)


async def read_when_there(log: Transport, topic: str, offset: int, _: str) -> None:
    """Wait for a record, then print its value as text."""
    await log.wait(topic, offset)
    _print((await log.read(topic, offset))[0].value.decode())


async def delete(log: Transport, topic: str, _: int, __: str) -> None:
    """Delete the topic; print that it was done."""
    await log.delete_topic(topic)
    _print("deleted")


_TASKS: dict[str, Callable[[Transport, str, int, str], Awaitable[None]]] = {
    task.__name__: task for task in (append_each, append_batches, read_when_there, delete)
}


def _print(value: object) -> None:
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


async def _main(task: str, url: str, topic: str, number: int, label: str) -> None:
    async with await open_transport(url) as log:
        _print("ready")
        await _TASKS[task](log, topic, number, label)


if __name__ == "__main__":
    _task, _url, _topic, _number, _label = sys.argv[1:]
    asyncio.run(_main(_task, _url, _topic, int(_number), _label))
