"""The shaped transport keeps the contract, and takes the time that its link takes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

import pytest

from slstream.bench import shaped_transport
from slstream.bench.shaped_link import Link
from slstream.bench.shaped_transport import ShapedTransport
from slstream.errors import OffsetOutOfRange, TransportClosed
from slstream.testing import (
    transport_ends,
    transport_processes,
    transport_records,
    transport_topics,
    transport_waiting,
)
from slstream.testing.transport import TransportContract
from slstream.transport.connect import embedded_url, open_transport
from slstream.transport.contract import Record, StoredRecord, Transport
from tests.bench.virtual_time import TimedLog, run_virtually, wall_clock

QUICK = Link(rate_bps=100e9, rtt_s=0.0002)


class TestQuickLink(TransportContract):
    """This process at the far end of a link, those that the tests start beside the log."""

    @pytest.fixture
    def url(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
        async def open_shaped(url: str, **options: Any) -> Transport:
            return ShapedTransport(await open_transport(url, **options), QUICK, seed="any")

        for module in (
            transport_ends,
            transport_processes,
            transport_records,
            transport_topics,
            transport_waiting,
        ):
            monkeypatch.setattr(module, "open_transport", open_shaped)
        return embedded_url(tmp_path)


DELAY = 0.5
SLOW = Link(rate_bps=8e6, rtt_s=2 * DELAY)
"""A megabyte a second."""


@pytest.fixture(autouse=True)
def wall(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    if request.cls is None:
        monkeypatch.setattr(shaped_transport, "time", wall_clock)


def run(body: Callable[[Transport, ShapedTransport], Coroutine[Any, Any, None]]) -> None:
    """Run with a log that a transport is beside, and one at the end of a slow link."""

    async def main() -> None:
        near = TimedLog()
        await near.create_topic("t")
        async with ShapedTransport(near, SLOW, seed="any") as far:
            await body(near, far)

    run_virtually(main())


def now() -> float:
    """In seconds since the link was opened."""
    return asyncio.get_running_loop().time()


def seconds(expected: float) -> object:
    """Frames of records and whole milliseconds make a small difference."""
    return pytest.approx(expected, abs=0.002)


def test_an_append_takes_its_bytes_and_both_ways() -> None:
    async def body(near: Transport, far: ShapedTransport) -> None:
        sending = asyncio.create_task(far.append("t", [Record(value=bytes(200_000))]))
        await near.wait("t", 0)
        assert now() == seconds(0.2 + DELAY)
        assert await sending == 0
        assert now() == seconds(0.2 + 2 * DELAY)

    run(body)


def test_appends_that_are_not_awaited_share_the_way() -> None:
    async def body(near: Transport, far: ShapedTransport) -> None:
        records = [Record(value=bytes([n]) * 40_000) for n in range(5)]
        await asyncio.gather(*(far.append("t", [record]) for record in records))
        assert now() == seconds(0.2 + 2 * DELAY)
        assert [r.value[0] for r in await near.read("t", 0)] == list(range(5))

    run(body)


def test_records_come_down_one_after_another() -> None:
    async def body(near: Transport, far: ShapedTransport) -> None:
        assert not await far.wait("t", 0, timeout_s=1)  # it is subscribed now
        await near.append("t", [Record(value=bytes(200_000)), Record(value=bytes(100_000))])
        assert await far.wait("t", 0)
        assert now() == seconds(1 + 0.2 + DELAY)
        assert [r.offset for r in await far.read("t", 0)] == [0], "the second is on its way"
        assert await far.wait("t", 1)
        assert now() == seconds(1 + 0.3 + DELAY)
        assert [r.offset for r in await far.read("t", 0)] == [0, 1]
        assert now() == seconds(1 + 0.3 + DELAY), "a read of what is there takes no time"

    run(body)


def test_records_come_down_while_nobody_asks() -> None:
    async def body(near: Transport, far: ShapedTransport) -> None:
        assert not await far.wait("t", 0, timeout_s=1)
        await near.append("t", [Record(value=bytes(100_000))])
        await asyncio.sleep(0.1 + DELAY / 2)
        assert await far.wait("t", 0)
        assert now() == seconds(1 + 0.1 + DELAY)

    run(body)


def test_what_is_there_already_comes_when_it_is_asked_for() -> None:
    async def body(near: Transport, far: ShapedTransport) -> None:
        await near.append("t", [Record(value=bytes(100_000))])
        await asyncio.sleep(5)
        assert len(await far.read("t", 0)) == 1
        assert now() == seconds(5 + 0.1 + 2 * DELAY)
        assert len(await far.read("t", 0)) == 1
        assert now() == seconds(5 + 0.1 + 2 * DELAY), "once"

    run(body)


def test_a_read_that_finds_nothing_asks_the_log() -> None:
    async def body(near: Transport, far: ShapedTransport) -> None:
        assert list(await far.read("t", 0)) == []
        assert now() == seconds(2 * DELAY)
        # What was appended before the question reaches the log, is in the answer.
        found = asyncio.create_task(far.read("t", 0))
        await asyncio.sleep(DELAY / 2)
        await near.append("t", [Record(value=b"just in time")])
        assert len(await found) == 1
        assert now() == seconds(2 * DELAY + 1.5 * DELAY)

    run(body)


def test_both_directions_carry_at_the_same_time() -> None:
    async def body(near: Transport, far: ShapedTransport) -> None:
        await near.create_topic("u")
        assert not await far.wait("t", 0, timeout_s=1)
        sending = asyncio.create_task(far.append("u", [Record(value=bytes(1_000_000))]))
        await near.append("t", [Record(value=bytes(1_000_000))])
        await far.wait("t", 0)
        assert now() == seconds(1 + 1 + DELAY)
        await sending
        assert now() == seconds(1 + 1 + 2 * DELAY)

    run(body)


def test_topics_share_the_link() -> None:
    async def body(near: Transport, far: ShapedTransport) -> None:
        await near.create_topic("u")
        sending = [
            asyncio.create_task(far.append(topic, [Record(value=bytes(500_000))]))
            for topic in ("t", "u")
        ]
        await sending[0]
        assert now() == seconds(0.5 + 2 * DELAY)
        await sending[1]
        assert now() == seconds(1 + 2 * DELAY)

    run(body)


def test_questions_take_a_round_trip() -> None:
    async def body(_: Transport, far: ShapedTransport) -> None:
        await asyncio.gather(far.end_offset("t"), far.topics(), far.create_topic("u"))
        assert now() == seconds(2 * DELAY)

    run(body)


def test_a_wait_ends_in_time_while_its_record_is_on_its_way() -> None:
    async def body(near: Transport, far: ShapedTransport) -> None:
        await near.append("t", [Record(value=bytes(500_000))])
        assert not await far.wait("t", 0, timeout_s=0.7)
        assert now() == seconds(0.7)
        assert await far.wait("t", 0, timeout_s=5)
        assert now() == seconds(0.5 + 2 * DELAY)

    run(body)


def test_appends_beyond_the_limit_wait_in_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shaped_transport, "MAX_BYTES_IN_FLIGHT", 100_000)

    async def body(near: Transport, far: ShapedTransport) -> None:
        sending = [
            asyncio.create_task(far.append("t", [Record(value=bytes([n]) * 60_000)]))
            for n in range(6)
        ]
        await asyncio.sleep(0)
        assert len(far._in_flight) == 2
        assert await asyncio.gather(*sending) == list(range(6))
        assert [r.value[0] for r in await near.read("t", 0)] == list(range(6))

    run(body)


def test_jitter_lets_no_append_overtake_another() -> None:
    async def main() -> None:
        near = TimedLog()
        await near.create_topic("t")
        far = ShapedTransport(near, Link(rate_bps=1e9, jitter_s=0.5), seed="any")
        records = [Record(value=b"%d" % n) for n in range(100)]
        offsets = await asyncio.gather(*(far.append("t", [record]) for record in records))
        assert offsets == list(range(100))
        assert near.values("t") == [record.value for record in records]

    run_virtually(main())


def test_an_append_that_nobody_awaits_any_more_arrives_in_its_turn() -> None:
    async def body(near: Transport, far: ShapedTransport) -> None:
        sending = [
            asyncio.create_task(far.append("t", [Record(value=bytes([n]) * 40_000)]))
            for n in range(3)
        ]
        await asyncio.sleep(0.01)
        sending[1].cancel()
        assert await sending[2] == 2
        assert [r.value[0] for r in await near.read("t", 0)] == [0, 1, 2]

    run(body)


def test_a_wait_for_what_retention_has_removed_ends() -> None:
    class Removed(TimedLog):
        async def read(self, topic: str, offset: int, **limits: int) -> Sequence[StoredRecord]:
            raise OffsetOutOfRange("t begins at 1, found 0")

    async def main() -> None:
        near = Removed()
        await near.create_topic("t")
        await near.append("t", [Record(value=b"gone")])
        assert await ShapedTransport(near, SLOW, seed="any").wait("t", 0, timeout_s=5)

    run_virtually(main())


def test_closing_does_not_wait_for_a_slow_link() -> None:
    async def body(near: Transport, far: ShapedTransport) -> None:
        slow = asyncio.create_task(far.append("t", [Record(value=bytes(800_000))] * 20))
        done = asyncio.create_task(far.append("t", [Record(value=b"")]))
        waiting = asyncio.create_task(far.read("t", 0))
        await asyncio.sleep(0.01)
        await far.aclose()
        assert now() < 5
        for each in (slow, done, waiting):
            with pytest.raises(TransportClosed, match="closed by this process"):
                await each
        assert await near.end_offset("t") == 0

    run(body)
