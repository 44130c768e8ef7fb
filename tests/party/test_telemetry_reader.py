from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from slstream.frames.topics import telemetry_topic
from slstream.party.telemetry import PartyState, Progress
from slstream.party.telemetry_reader import TelemetryReader
from slstream.transport.connect import embedded_url, open_transport
from slstream.transport.contract import Record

TOPIC = telemetry_topic("small", "bob")


def event(step: int, party: str = "bob") -> Record:
    progress = Progress(party=party, session="s", state=PartyState.TRAINING, step=step)
    return Record(value=progress.to_json())


def test_events_are_handed_over_once_in_order_and_garbage_is_skipped(tmp_path: Path) -> None:
    seen: list[int] = []
    two = asyncio.Event()

    def listener(event: Progress) -> None:
        seen.append(event.step)
        if len(seen) == 2:
            two.set()

    async def main() -> None:
        async with await open_transport(embedded_url(tmp_path)) as transport:
            await transport.create_topic(TOPIC)
            await transport.append(TOPIC, [event(0)])  # of an earlier run
            reader = TelemetryReader(transport, "small", "bob", listener)
            await reader.open()
            following = asyncio.create_task(reader.follow())
            await transport.append(TOPIC, [event(1), Record(value=b"garbage"), event(2)])
            await transport.append(TOPIC, [event(9, party="mallory")])
            await two.wait()
            following.cancel()
            await transport.append(TOPIC, [event(3)])
            await reader.drain()

    asyncio.run(asyncio.wait_for(main(), 20))
    assert seen == [1, 2, 3]


def test_what_a_listener_raises_is_not_taken_for_garbage(tmp_path: Path) -> None:
    def listener(progress: Progress) -> None:
        raise ValueError(f"mine, at step {progress.step}")

    async def main() -> None:
        async with await open_transport(embedded_url(tmp_path)) as transport:
            reader = TelemetryReader(transport, "small", "bob", listener)
            await reader.open()
            await transport.append(TOPIC, [event(1)])
            with pytest.raises(ValueError, match="mine, at step 1"):
                await reader.drain()

    asyncio.run(main())
