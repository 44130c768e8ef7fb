"""Frames that are sent before those ahead of them are confirmed."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slstream.errors import Fenced, TransportBroken
from slstream.party import outbound
from slstream.party.outbound import UNDER_WAY_BYTES
from slstream.transport.contract import Record
from tests.party.link_ends import TOPIC, Bob, delivered
from tests.party.memory_log import MemoryLog

MOST = 3


class FarLog(MemoryLog):
    """Records arrive at once and in order; that they did is told when ``confirm`` is called."""

    def __init__(self) -> None:
        super().__init__()
        self.records[TOPIC] = []
        self.waiting: list[asyncio.Future[None]] = []
        self.lost = False
        self.far = True

    async def append(self, topic: str, records: Sequence[Record], *, partition: int = 0) -> int:
        if self.lost:
            raise TransportBroken("the log is gone")
        offset = await super().append(topic, records, partition=partition)
        if self.far:
            confirmed = asyncio.get_running_loop().create_future()
            self.waiting.append(confirmed)
            await confirmed
        return offset

    def confirm(self, count: int = 1) -> None:
        for _ in range(count):
            self.waiting.pop(0).set_result(None)


async def turns() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def live(log: FarLog, incarnation: int = 1) -> Bob:
    """A process whose first frame is in the log and confirmed."""
    log.far = False
    bob = Bob(log, incarnation, most_under_way=MOST)
    await bob.outbound.fence()
    await bob.send(b"1")
    await bob.outbound.settle()
    log.far = True
    return bob


def payloads(log: FarLog) -> list[bytes]:
    log.far = False
    return [frame.payload for frame in asyncio.run(delivered(log))]


def test_a_send_returns_while_there_is_room() -> None:
    log = FarLog()

    async def main() -> None:
        bob = await live(log)
        await asyncio.wait_for(bob.send(b"2", b"3", b"4", first=2), 5)
        assert bob.outbound.mark.next_sequence == 1, "nothing is confirmed"
        fifth = asyncio.create_task(bob.send(b"5", first=5))
        await turns()
        assert not fifth.done()
        log.confirm()
        await asyncio.wait_for(fifth, 5)
        assert bob.outbound.mark.next_sequence == 2
        settling = asyncio.create_task(bob.outbound.settle())
        await turns()
        assert not settling.done()
        log.confirm(3)
        await asyncio.wait_for(settling, 5)
        assert bob.outbound.mark.next_sequence == 5
        assert bob.outbound.mark.offset == 5

    asyncio.run(main())
    assert payloads(log) == [b"1", b"2", b"3", b"4", b"5"]


def near(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    monkeypatch.setattr(outbound, "NEAR_S", seconds)


def test_a_party_gives_way_to_a_log_that_is_near(monkeypatch: pytest.MonkeyPatch) -> None:
    log = FarLog()

    async def main() -> None:
        near(monkeypatch, 20)
        bob = await live(log)
        await asyncio.wait_for(bob.outbound.give_way(), 5)  # nothing is under way
        await bob.send(b"2", b"3", first=2)
        giving_way = asyncio.create_task(bob.outbound.give_way())
        await turns()
        assert not giving_way.done()
        log.confirm(2)
        await asyncio.wait_for(giving_way, 5)
        await asyncio.wait_for(bob.outbound.give_way(), 5)
        await bob.outbound.settle()

    asyncio.run(main())
    assert payloads(log) == [b"1", b"2", b"3"]


def test_a_party_does_not_give_way_to_a_log_that_was_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    log = FarLog()

    async def main() -> None:
        near(monkeypatch, 20)
        bob = await live(log)
        near(monkeypatch, 0.01)
        await bob.send(b"2", first=2)
        await asyncio.wait_for(bob.outbound.give_way(), 5)
        near(monkeypatch, 20)
        await bob.send(b"3", first=3)
        await asyncio.wait_for(bob.outbound.give_way(), 5)
        log.confirm(2)  # both within the new limit
        await turns()
        await bob.send(b"4", first=4)
        giving_way = asyncio.create_task(bob.outbound.give_way())
        await turns()
        assert not giving_way.done()
        near(monkeypatch, 0)
        log.confirm()
        await asyncio.wait_for(giving_way, 5)
        near(monkeypatch, 20)
        await bob.send(b"5", first=5)
        await asyncio.wait_for(bob.outbound.give_way(), 5)
        await bob.outbound.leave()

    asyncio.run(main())


def test_large_frames_take_the_room_of_many() -> None:
    log = FarLog()

    async def main() -> None:
        bob = await live(log)
        large = bytes(UNDER_WAY_BYTES // 2 + 1)
        await asyncio.wait_for(bob.send(large, first=2), 5)
        second = asyncio.create_task(bob.send(large, first=3))
        await turns()
        assert not second.done()
        log.confirm()
        await asyncio.wait_for(second, 5)
        await bob.outbound.leave()

    asyncio.run(main())


def test_a_frame_that_is_lost_is_told_by_what_comes_next() -> None:
    log = FarLog()

    async def main() -> None:
        bob = await live(log)
        bob.outbound.raise_if_failed()
        log.lost = True
        await bob.send(b"2", first=2)
        await turns()
        lost = r"cannot send activation of epoch 1, step 2"
        with pytest.raises(TransportBroken, match=lost):
            await bob.outbound.settle()
        with pytest.raises(TransportBroken, match=lost):
            await bob.send(b"3", first=3)
        with pytest.raises(TransportBroken, match="the log is gone"):
            bob.outbound.raise_if_failed()
        await bob.outbound.leave()

    asyncio.run(main())


def test_a_newer_process_fences_what_is_under_way_off() -> None:
    log = FarLog()

    async def main() -> None:
        old = await live(log)
        await old.send(b"2", first=2)
        new = await live(log, 2)
        assert len(new.compared) == 1
        await old.send(b"3", b"4", first=3)
        await turns()
        log.far = False
        log.confirm(3)
        with pytest.raises(Fenced):
            await old.outbound.settle()
        await old.outbound.leave()
        await new.send(b"2", b"new", first=2)
        await new.outbound.settle()

    asyncio.run(main())
    assert payloads(log) == [b"1", b"2", b"new"]


@settings(max_examples=60)
@given(
    lives=st.lists(
        st.lists(st.sampled_from(["send", "confirm", "settle"]), max_size=12), max_size=4
    )
)
def test_each_frame_stands_once_however_many_were_under_way_at_a_death(
    lives: list[list[str]],
) -> None:
    log, frames = FarLog(), [b"%d" % number for number in range(1, 15)]

    async def run_life(incarnation: int, events: list[str]) -> None:
        bob, sent = await live(log, incarnation), 1
        for event in events:
            if event == "send" and sent < len(frames):
                sending = asyncio.create_task(bob.send(frames[sent], first=sent + 1))
                sent += 1
            else:
                sending = asyncio.create_task(
                    bob.outbound.settle() if event == "settle" else asyncio.sleep(0)
                )
            while not sending.done():
                await turns()
                if log.waiting:
                    log.confirm()
            await sending
        await bob.outbound.leave()
        log.waiting.clear()

    async def main() -> None:
        for number, events in enumerate(lives, start=1):
            await run_life(number, events)
        log.far = False
        last = Bob(log, len(lives) + 1, most_under_way=MOST)
        await last.outbound.fence()
        await last.send(*frames)
        await last.outbound.settle()

    asyncio.run(main())
    assert payloads(log) == frames
