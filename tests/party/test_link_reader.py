from __future__ import annotations

import asyncio

import pytest

from slstream.errors import RemoteProtocolError, UnknownTopic
from slstream.frames.chunking import CHUNK_BYTES
from slstream.frames.header import FrameKind
from slstream.frames.link import FrameWriter
from slstream.party import link_reader
from slstream.party.link_reader import LinkMark, LinkReader, Place
from slstream.party.times import Times
from slstream.protocol.messages import Abort, Ready, Refuse, encode_message
from tests.party.link_ends import IDS, TOPIC, Bob, append, message, records_of
from tests.party.memory_log import MemoryLog


async def opened() -> tuple[MemoryLog, LinkReader]:
    log = MemoryLog()
    await log.create_topic(TOPIC)
    return log, LinkReader(log, TOPIC, "bob", Times())


def is_ready(reader: LinkReader) -> bool:
    """As a function: mypy would take it for constant."""
    return reader.is_ready


def test_frames_are_queued_in_order_and_marked() -> None:
    async def main() -> None:
        log, reader = await opened()
        assert not await reader.read_ahead()
        assert not is_ready(reader)
        big = bytes(range(256)) * (CHUNK_BYTES // 256) * 2  # two records
        await Bob(log, 3).send(b"a", big, b"c")
        assert await reader.read_ahead()
        assert str(reader.place) == f"topic {TOPIC}, offset 4"
        marks = [reader.mark]
        taken = []
        while is_ready(reader):
            taken.append(reader.take().payload)
            marks.append(reader.mark)
        assert taken == [b"a", big, b"c"]
        assert marks == [
            LinkMark(),
            LinkMark(offset=1, next_sequence=1, incarnation=3),
            LinkMark(offset=3, next_sequence=2, incarnation=3),
            LinkMark(offset=4, next_sequence=3, incarnation=3),
        ]
        assert not await reader.read_ahead()

    asyncio.run(main())


def test_it_goes_on_behind_any_frame() -> None:
    async def main() -> None:
        log, reader = await opened()
        first = Bob(log, 1)
        await first.send(b"a", b"b")
        new = Bob(log, 2)
        await new.outbound.fence()
        await new.send(b"a", b"b", b"c")
        await reader.read_ahead()
        marks, payloads = [reader.mark], []
        while is_ready(reader):
            payloads.append(reader.take().payload)
            marks.append(reader.mark)
        for index, mark in enumerate(marks):
            reader.seek(mark)
            assert reader.mark == mark
            assert not is_ready(reader), "what was queued is forgotten"
            await reader.read_ahead()
            rest = []
            while is_ready(reader):
                rest.append(reader.take().payload)
            assert rest == payloads[index:]

    asyncio.run(main())


def test_it_tells_the_highest_incarnation_that_was_read() -> None:
    async def main() -> None:
        log, reader = await opened()
        found = [reader.incarnation]
        await Bob(log, 1).send(b"a")
        await reader.read_ahead()
        found.append(reader.incarnation)
        await Bob(log, 7).outbound.fence()
        await reader.read_ahead()
        found.append(reader.incarnation)
        assert found == [0, 1, 7], "also before the frames in front of it are taken"
        assert reader.mark == LinkMark()

    asyncio.run(main())


@pytest.mark.parametrize("word", [Abort(reason="disk full"), Refuse(reason="no")])
def test_a_last_word_is_known_as_soon_as_it_is_read(word: Abort | Refuse) -> None:
    async def main() -> None:
        log, reader = await opened()
        bob = Bob(log, 1)
        await bob.send(b"a")
        await bob.outbound.send(message(Ready()))
        await reader.read_ahead()
        before = reader.last_word
        await bob.outbound.send(message(word))
        await reader.read_ahead()
        assert (before, reader.last_word) == (None, word)
        assert reader.take().payload == b"a"

    asyncio.run(main())


@pytest.mark.parametrize("size", [0, 100_000])
def test_what_is_read_ahead_is_bounded(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_reader, "READ_AHEAD_BYTES", 400_000)

    async def main() -> None:
        log, reader = await opened()
        count = 2000 if size == 0 else 200
        for start in range(count):
            await append(log, *records_of(bytes(size), sequence=start, incarnation=1))
        monkeypatch.setattr(log, "read", lambda t, o: MemoryLog.read(log, t, o, max_records=50))
        for _ in range(10):
            assert await reader.read_ahead()
        held = reader.place.offset
        assert 0 < held < count
        for _ in range(count):
            if not reader.is_ready:
                await reader.read_ahead()
            reader.take()
        assert reader.place == Place(topic=TOPIC, offset=count)

    asyncio.run(main())


def hostile(name: str) -> bytes:
    """The second record of a link, whose first is frame 0 of incarnation 1."""
    if name == "not a message":
        writer = FrameWriter(sender="bob", incarnation=1, next_sequence=1)
        control = FrameKind.CONTROL
        return writer.write(kind=control, schema_id=IDS[control], payload=b"{")[0].value
    (value,) = records_of(b"payload", sequence=2 if name == "gap" else 1, incarnation=1)
    return {
        "garbage": b"\x17" * 100,
        "truncated": value[:-1],
        "nothing": b"",
        "gap": value,
        "oversize claim": value[:34] + (2**31).to_bytes(4, "big") + value[38:],
        "second writer": records_of(b"other", sequence=0, incarnation=1)[0],
    }[name]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("garbage", "BadMagic"),
        ("truncated", "TruncatedFrame"),
        ("oversize claim", "FrameTooLarge"),
        ("not a message", "control message is not JSON"),
        ("gap", "were lost; restore the log from a copy, or begin a new session with --new"),
        ("nothing", "TruncatedFrame"),
        ("second writer", "two processes of the sending party"),
    ],
)
def test_hostile_records_are_named_with_their_place(name: str, text: str) -> None:
    async def main() -> None:
        log, reader = await opened()
        await append(log, *records_of(b"good", sequence=0, incarnation=1))
        await append(log, hostile(name))
        with pytest.raises(RemoteProtocolError) as caught:
            await reader.read_ahead()
        said = str(caught.value)
        assert said.startswith("bob sent a record that is no frame of this link")
        assert f"topic {TOPIC}, offset 1" in said
        assert text in said

    asyncio.run(main())


def test_errors_of_the_log_name_the_sender_and_the_place() -> None:
    async def main() -> None:
        log, reader = await opened()
        await append(log, encode_message(Ready()))
        await log.delete_topic(TOPIC)
        with pytest.raises(UnknownTopic, match=f"cannot read from bob .topic {TOPIC}, offset 0"):
            await reader.read_ahead()

    asyncio.run(main())
