from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from slstream.errors import (
    PeerTimeout,
    RemoteProtocolError,
    SessionAborted,
    SessionRefused,
    UnknownTopic,
)
from slstream.frames.header import FrameKind
from slstream.party import inbound as inbound_module
from slstream.party.inbound import Inbound
from slstream.party.link_reader import LinkMark
from slstream.party.link_speed import LinkSpeed
from slstream.party.times import Times
from slstream.protocol.actions import Arrival
from slstream.protocol.messages import Abort, Message, Ready, Refuse
from slstream.transport.connect import embedded_url, open_transport
from slstream.transport.contract import Transport
from tests.party.link_ends import IDS, TOPIC, Bob, activation, append, message, records_of


class Ends:
    """Both ends of a link, bob's and alice's."""

    def __init__(self, transport: Transport) -> None:
        self.transport = transport
        self.bob = Bob(transport, 1)
        self.speed = LinkSpeed(chooses=True, tells=True)
        self.inbound = Inbound(transport, TOPIC, "bob", Times(), self.speed)
        self.ticks: list[float] = []

    async def next(self, timeout_s: float = 10.0) -> Arrival:
        async def on_tick(waited_s: float) -> None:
            self.ticks.append(waited_s)

        def schema_ids(kind: FrameKind) -> tuple[int, ...]:
            return (IDS[kind], 99) if kind in IDS else ()

        return await self.inbound.next("a frame", schema_ids, timeout_s=timeout_s, on_tick=on_tick)


OnLink = Callable[[Callable[[Ends], Coroutine[Any, Any, None]]], None]


@pytest.fixture
def on_link(tmp_path: Path) -> OnLink:
    def run(body: Callable[[Ends], Coroutine[Any, Any, None]]) -> None:
        async def main() -> None:
            async with await open_transport(embedded_url(tmp_path)) as transport:
                await transport.create_topic(TOPIC)
                await body(Ends(transport))

        asyncio.run(main())

    return run


def test_frames_arrive_in_order_with_their_place(on_link: OnLink) -> None:
    async def body(ends: Ends) -> None:
        big = bytes(range(256)) * 4096  # two records
        await ends.bob.send(b"a", big, b"c")
        assert not ends.inbound.is_ready
        assert ends.inbound.taken is None
        taken = []
        for step, payload in enumerate((b"a", big, b"c"), start=1):
            arrival = await ends.next()
            assert (arrival.kind, arrival.step) == (FrameKind.ACTIVATION, step)
            assert arrival.payload == payload
            taken.append(str(ends.inbound.taken))
        assert taken == [f"topic {TOPIC}, offset {n}" for n in (0, 2, 3)]

    on_link(body)


def test_a_new_process_goes_on_behind_its_mark(on_link: OnLink) -> None:
    async def body(ends: Ends) -> None:
        await ends.bob.send(b"a", b"b", b"c")
        await ends.next()
        await ends.next()
        assert ends.inbound.mark == LinkMark(offset=2, next_sequence=2, incarnation=1)
        again = Ends(ends.transport)
        again.inbound.seek(ends.inbound.mark)
        assert (await again.next()).payload == b"c"
        assert str(again.inbound.taken) == f"topic {TOPIC}, offset 2"

    on_link(body)


def test_a_peer_that_was_started_again_is_one_peer(on_link: OnLink) -> None:
    async def body(ends: Ends) -> None:
        await ends.bob.send(b"a", b"b")
        again = Bob(ends.transport, 2)
        await again.outbound.fence()
        # The old process is not dead yet; its incarnation is over all the same.
        await append(ends.transport, *records_of(b"of the old", sequence=2, incarnation=1))
        await again.send(b"a", b"b", b"c")
        assert [(await ends.next()).payload for _ in range(3)] == [b"a", b"b", b"c"]

    on_link(body)


@pytest.mark.parametrize("kind", [FrameKind.ACTIVATION, FrameKind.CONTROL])
def test_another_schema_than_negotiated_is_refused(
    on_link: OnLink, kind: FrameKind, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def body(ends: Ends) -> None:
        negotiated = IDS[kind]
        if kind is FrameKind.CONTROL:
            await ends.bob.outbound.send(message(Ready()))
        else:
            await ends.bob.send(b"a")
        monkeypatch.setitem(IDS, kind, 9)
        with pytest.raises(RemoteProtocolError) as caught:
            await ends.next()
        assert f"with schema id {negotiated}; negotiated was 9" in str(caught.value)
        assert f"(topic {TOPIC}, offset 0)" in str(caught.value)

    on_link(body)


def test_silence_ends_with_peer_topic_and_offset(
    on_link: OnLink, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "slstream")

    async def body(ends: Ends) -> None:
        await ends.bob.send(b"a")
        await ends.next()
        with pytest.raises(PeerTimeout) as caught:
            await ends.next(timeout_s=2.1)
        assert str(caught.value) == (
            f"no sign of bob for 3 s while waiting for a frame (topic {TOPIC}, offset 1); "
            "see what it says, or raise timeouts.peer_s"
        )
        assert [round(s) for s in ends.ticks] == [1, 2]

    on_link(body)
    # Once after a second; again only much later.
    waits = [vars(record) for record in caplog.records if record.getMessage() == "waiting"]
    assert [(w["for"], w["waited_s"], w["topic"], w["offset"]) for w in waits] == [
        ("a frame", 1, TOPIC, 1)
    ]


def test_a_short_timeout_is_kept(on_link: OnLink) -> None:
    async def body(ends: Ends) -> None:
        start = monotonic()
        with pytest.raises(PeerTimeout):
            await ends.next(timeout_s=0.1)
        assert monotonic() - start < 0.9

    on_link(body)


def test_records_that_complete_no_frame_put_off_neither_tick_nor_timeout(on_link: OnLink) -> None:
    async def body(ends: Ends) -> None:
        await ends.bob.send(b"again")
        (found,) = await ends.transport.read(TOPIC, 0)
        await ends.next()

        async def repeat() -> None:
            while True:
                await append(ends.transport, found.value)
                await asyncio.sleep(0.02)

        repeating = asyncio.create_task(repeat())
        try:
            with pytest.raises(PeerTimeout):
                await ends.next(timeout_s=1.5)
        finally:
            repeating.cancel()
        assert ends.ticks

    on_link(body)


LAST_WORDS: list[tuple[Message, type[Exception]]] = [
    (Abort(reason="disk full"), SessionAborted),
    (Refuse(reason="disk full"), SessionRefused),
]


@pytest.mark.parametrize(("word", "error"), LAST_WORDS)
def test_a_last_word_counts_before_frames_that_were_not_taken(
    on_link: OnLink, word: Message, error: type[Exception]
) -> None:
    async def body(ends: Ends) -> None:
        await ends.bob.send(b"not taken")
        await ends.bob.outbound.send(message(word))
        ends.inbound.raise_if_over()
        await ends.inbound.read_ahead()
        with pytest.raises(error, match=r"bob .*disk full"):
            ends.inbound.raise_if_over()

    on_link(body)


@pytest.mark.parametrize("word", [word for word, _ in LAST_WORDS])
def test_a_last_word_comes_in_its_order_to_who_only_reads_the_log(
    on_link: OnLink, word: Message
) -> None:
    async def body(ends: Ends) -> None:
        ends.inbound = Inbound(ends.transport, TOPIC, "bob", Times(), ends.speed, in_order=True)
        await ends.bob.send(b"taken")
        await ends.bob.outbound.send(message(word))
        await ends.inbound.read_ahead()
        ends.inbound.raise_if_over()
        assert (await ends.next()).payload == b"taken"
        assert (await ends.next()).kind is FrameKind.CONTROL  # whoever accepts it raises

    on_link(body)


def test_errors_of_the_log_name_the_peer(on_link: OnLink) -> None:
    async def body(ends: Ends) -> None:
        await ends.bob.send(b"a")
        await ends.transport.delete_topic(TOPIC)
        with pytest.raises(UnknownTopic, match="cannot read from bob"):
            await ends.next()

    on_link(body)


def test_what_was_waited_for_tells_how_fast_it_came(on_link: OnLink) -> None:
    async def body(ends: Ends) -> None:
        async def later(payload: bytes, step: int) -> None:
            await asyncio.sleep(0.05)
            await ends.bob.send(payload, first=step)

        async with asyncio.TaskGroup() as group:
            group.create_task(later(b"small", 1))
            await ends.next()
        assert ends.speed.from_log.seconds_per_byte is None
        async with asyncio.TaskGroup() as group:
            group.create_task(later(bytes(100_000), 2))
            await ends.next()
        assert ends.speed.from_log.seconds_per_byte is not None

    on_link(body)


def test_what_was_there_before_counts_as_long_as_it_was_waited_for(
    on_link: OnLink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inbound_module, "_BLOCKED_S", 0.0)

    async def body(ends: Ends) -> None:
        await ends.bob.send(b"small")
        await ends.next()
        await ends.bob.send(bytes(100_000), first=2)
        await asyncio.sleep(1)
        began_s = monotonic()
        await ends.next()
        took_s = monotonic() - began_s
        seconds_per_byte = ends.speed.from_log.seconds_per_byte
        assert seconds_per_byte is not None
        assert seconds_per_byte <= took_s / 100_000 < 1e-5

    on_link(body)


def test_what_the_peer_tells_of_the_link_is_heeded(on_link: OnLink) -> None:
    async def body(ends: Ends) -> None:
        headers = (("rate", b"1000"),)
        await ends.bob.outbound.send(replace(activation(b"a"), headers=headers))
        await ends.next()
        assert ends.speed.seconds_per_byte == 0.001

    on_link(body)
