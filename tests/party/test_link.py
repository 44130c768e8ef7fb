from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from slstream.errors import (
    PeerTimeout,
    RemoteProtocolError,
    SessionAborted,
    SessionRefused,
    TransportBroken,
    TransportError,
    UnknownTopic,
)
from slstream.frames.header import FrameKind
from slstream.frames.link import FrameWriter
from slstream.frames.wire_size import wire_size
from slstream.party import link
from slstream.party.ledger import Ledger
from slstream.party.link import Inbound, Outbound
from slstream.party.times import Times
from slstream.protocol.actions import Arrival
from slstream.protocol.messages import Abort, Done, Message, Ready, Refuse, encode_message
from slstream.transport.connect import embedded_url, open_transport
from slstream.transport.contract import Record, Transport

TOPIC = "small.bob-to-alice.s1"
IDS = {FrameKind.CONTROL: 1, FrameKind.ACTIVATION: 4}


class Ends:
    """Both ends of a link, bob's and alice's."""

    def __init__(self, transport: Transport) -> None:
        self.transport = transport
        self.ledger = Ledger("bob")
        self.writer = FrameWriter(sender="bob", incarnation=1)
        self.outbound = Outbound(transport, TOPIC, "alice", self.writer, self.ledger, Times())
        self.inbound = Inbound(transport, TOPIC, "bob", Times())
        self.ticks: list[float] = []

    async def send(self, kind: FrameKind, payload: bytes, step: int = 1) -> None:
        await self.outbound.send(
            kind, IDS[kind], payload, codec="c", raw_bytes=4000, epoch=1, step=step
        )

    async def tell(self, message: Message) -> None:
        await self.outbound.send(
            FrameKind.CONTROL, 1, encode_message(message), codec="json", raw_bytes=50
        )

    async def append(self, *values: bytes) -> None:
        await self.transport.append(TOPIC, [Record(value=value) for value in values])

    def frame(self, kind: FrameKind, payload: bytes, schema_id: int | None = None) -> bytes:
        """The record of the next frame, as a hostile sender may change it."""
        records = self.writer.write(
            kind=kind, schema_id=schema_id or IDS[kind], payload=payload, epoch=1, step=1
        )
        return records[0].value

    async def next(self, timeout_s: float = 10.0) -> Arrival:
        async def on_tick(waited_s: float) -> None:
            self.ticks.append(waited_s)

        return await self.inbound.next("a frame", IDS.get, timeout_s=timeout_s, on_tick=on_tick)


@pytest.fixture
def on_link(tmp_path: Path) -> Callable[[Callable[[Ends], Coroutine[Any, Any, None]]], None]:
    def run(body: Callable[[Ends], Coroutine[Any, Any, None]]) -> None:
        async def main() -> None:
            async with await open_transport(embedded_url(tmp_path)) as transport:
                await transport.create_topic(TOPIC)
                await body(Ends(transport))

        asyncio.run(main())

    return run


OnLink = Callable[[Callable[[Ends], Coroutine[Any, Any, None]]], None]


def test_frames_arrive_in_order_with_their_place(on_link: OnLink) -> None:
    async def body(ends: Ends) -> None:
        big = bytes(range(256)) * 4096  # two records
        for step, payload in enumerate((b"a", big, b"c"), start=1):
            await ends.send(FrameKind.ACTIVATION, payload, step)
        taken = []
        for step, payload in enumerate((b"a", big, b"c"), start=1):
            arrival = await ends.next()
            assert (arrival.kind, arrival.step) == (FrameKind.ACTIVATION, step)
            assert arrival.payload == payload
            taken.append(str(ends.inbound.taken))
        assert taken == [f"topic {TOPIC}, offset {n}" for n in (0, 2, 3)]

    on_link(body)


def test_the_ledger_counts_what_the_log_holds(on_link: OnLink) -> None:
    async def body(ends: Ends) -> None:
        await ends.send(FrameKind.ACTIVATION, b"x" * 600_000)
        await ends.tell(Ready())
        records = await ends.transport.read(TOPIC, 0)
        assert len(records) == 3
        assert ends.ledger.wire_bytes == sum(map(wire_size, records))
        kinds = {(entry.kind, entry.codec): entry for entry in ends.ledger.traffic()}
        assert kinds["activation", "c"].frames == 1
        assert 4000 < kinds["activation", "c"].raw_bytes < 4000 + 200
        assert kinds["control", "json"].wire_bytes == wire_size(records[2])

    on_link(body)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("garbage", "BadMagic"),
        ("truncated", "TruncatedFrame"),
        ("oversize claim", "FrameTooLarge"),
        ("not a message", "control message is not JSON"),
        ("gap", "SequenceError"),
        ("nothing", "TruncatedFrame"),
    ],
)
def test_hostile_records_are_named_with_their_place(on_link: OnLink, name: str, text: str) -> None:
    async def body(ends: Ends) -> None:
        await ends.send(FrameKind.ACTIVATION, b"good")
        value = ends.frame(FrameKind.ACTIVATION, b"payload")
        if name == "gap":
            value = ends.frame(FrameKind.ACTIVATION, b"payload")
        elif name == "oversize claim":
            value = value[:34] + (2**31).to_bytes(4, "big") + value[38:]
        elif name == "not a message":
            value = ends.frame(FrameKind.CONTROL, b"{")
            value = value[:8] + (1).to_bytes(4, "big") + (1).to_bytes(8, "big") + value[20:]
        elif name == "garbage":
            value = b"\x17" * 100
        elif name == "truncated":
            value = value[:-1]
        elif name == "nothing":
            value = b""
        await ends.append(value)
        with pytest.raises(RemoteProtocolError) as caught:
            await ends.inbound.read_ahead()
        message = str(caught.value)
        assert message.startswith("bob sent a record that is no frame of this link")
        assert f"topic {TOPIC}, offset 1" in message
        assert text in message

    on_link(body)


@pytest.mark.parametrize("kind", [FrameKind.ACTIVATION, FrameKind.CONTROL])
def test_another_schema_than_negotiated_is_refused(on_link: OnLink, kind: FrameKind) -> None:
    async def body(ends: Ends) -> None:
        await ends.append(ends.frame(kind, encode_message(Ready()), schema_id=9))
        with pytest.raises(RemoteProtocolError, match=f"schema id 9; negotiated was {IDS[kind]}"):
            await ends.next()

    on_link(body)


def test_silence_ends_with_peer_topic_and_offset(
    on_link: OnLink, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "slstream")

    async def body(ends: Ends) -> None:
        await ends.tell(Ready())
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
        value = ends.frame(FrameKind.ACTIVATION, b"again")
        await ends.append(value)
        await ends.next()

        async def repeat() -> None:
            while True:
                await ends.append(value)
                await asyncio.sleep(0.02)

        repeating = asyncio.create_task(repeat())
        try:
            with pytest.raises(PeerTimeout):
                await ends.next(timeout_s=1.5)
        finally:
            repeating.cancel()
        assert ends.ticks

    on_link(body)


@pytest.mark.parametrize(
    ("word", "error"),
    [
        (Abort(reason="disk full"), SessionAborted),
        (Refuse(reason="disk full"), SessionRefused),
    ],
)
def test_a_last_word_counts_before_frames_that_were_not_taken(
    on_link: OnLink, word: Message, error: type[Exception]
) -> None:
    async def body(ends: Ends) -> None:
        await ends.send(FrameKind.ACTIVATION, b"not taken")
        await ends.tell(word)
        ends.inbound.raise_if_over()
        await ends.inbound.read_ahead()
        with pytest.raises(error, match=r"bob .*disk full"):
            ends.inbound.raise_if_over()

    on_link(body)


@pytest.mark.parametrize("size", [0, 100_000])
def test_what_is_read_ahead_is_bounded(
    on_link: OnLink, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link, "READ_AHEAD_BYTES", 400_000)

    async def body(ends: Ends) -> None:
        count = 2000 if size == 0 else 200
        values = [ends.frame(FrameKind.ACTIVATION, bytes(size)) for _ in range(count)]
        for start in range(0, count, 50):
            await ends.append(*values[start : start + 50])
        for _ in range(10):
            await ends.inbound.read_ahead()
        held = ends.inbound.place.offset
        assert 0 < held < count
        for _ in range(count):
            await ends.next()
        assert ends.inbound.place.offset == count

    on_link(body)


def test_a_payload_that_no_receiver_accepts_is_not_sent(
    on_link: OnLink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link, "MAX_FRAME_BYTES", 1000)

    async def body(ends: Ends) -> None:
        with pytest.raises(SessionAborted, match=r"activation of epoch 1, step 1 for alice.* 1001"):
            await ends.send(FrameKind.ACTIVATION, bytes(1001))
        assert await ends.transport.end_offset(TOPIC) == 0
        assert ends.ledger.wire_bytes == 0

    on_link(body)


def test_errors_of_the_log_name_peer_and_topic(on_link: OnLink) -> None:
    async def body(ends: Ends) -> None:
        await ends.tell(Done(weights="0" * 64))
        await ends.transport.delete_topic(TOPIC)
        with pytest.raises(UnknownTopic, match=f"cannot send control to alice .topic {TOPIC}"):
            await ends.tell(Ready())
        with pytest.raises(UnknownTopic, match="cannot read from bob"):
            await ends.next()

    on_link(body)


def test_a_broken_log_stays_a_broken_log(on_link: OnLink, monkeypatch: pytest.MonkeyPatch) -> None:
    async def body(ends: Ends) -> None:
        async def broken(*_: object, **__: object) -> int:
            raise TransportBroken("no space left on device")

        monkeypatch.setattr(ends.transport, "append", broken)
        with pytest.raises(TransportError, match=f"{TOPIC}.: no space left") as caught:
            await ends.tell(Ready())
        assert type(caught.value) is TransportBroken

    on_link(body)
