"""A frame is on its link once, whatever became of the process that began to send it."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import accumulate, cycle
from typing import Any
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slstream.errors import Fenced, SessionAborted, TransportBroken, TransportError, UnknownTopic
from slstream.frames.chunking import CHUNK_BYTES
from slstream.frames.frame import Frame
from slstream.frames.header import HEADER_BYTES, FrameKind, decode_header
from slstream.frames.link import FrameWriter
from slstream.frames.wire_size import wire_size
from slstream.party import outbound as outbound_module
from slstream.party.link_reader import LinkMark, LinkReader
from slstream.party.times import Times
from slstream.protocol.messages import Abort, Ready
from tests.party.link_ends import (
    TOPIC,
    Bob,
    activation,
    append,
    delivered,
    message,
    records_of,
)
from tests.party.memory_log import MemoryLog


def payloads(frames: list[Frame]) -> list[bytes]:
    return [frame.payload for frame in frames]


async def new_log() -> MemoryLog:
    log = MemoryLog()
    await log.create_topic(TOPIC)
    return log


async def restarted(log: MemoryLog, incarnation: int) -> Bob:
    """A process that has taken the link over."""
    bob = Bob(log, incarnation)
    await bob.outbound.fence()
    return bob


def test_what_the_log_holds_is_compared_and_not_sent_again() -> None:
    async def main() -> None:
        log = await new_log()
        await Bob(log, 1).send(b"a", b"b", b"c")
        again = await restarted(log, 2)
        before = len(log.values(TOPIC))
        await again.send(b"a", b"other", b"c")
        assert len(log.values(TOPIC)) == before
        assert again.outbound.suppressed == 3
        assert again.outbound.is_catching_up, "the next frame may be there as well"
        found = [(c.computed.payload, c.logged.payload, c.place.offset) for c in again.compared]
        assert found == [(b"a", b"a", 0), (b"other", b"b", 1), (b"c", b"c", 2)]
        assert {(c.receiver, c.place.topic) for c in again.compared} == {("alice", TOPIC)}
        assert payloads(await delivered(log)) == [b"a", b"b", b"c"]

    asyncio.run(main())


def test_it_goes_live_exactly_at_the_end_of_the_log() -> None:
    async def main() -> None:
        log = await new_log()
        await Bob(log, 1).send(b"a", b"b")
        again = await restarted(log, 2)
        await again.send(b"a", b"b", b"c", b"d")
        assert not again.outbound.is_catching_up
        assert again.outbound.suppressed == 2
        assert len(again.compared) == 2
        assert [(f.sequence, f.incarnation, f.payload) for f in await delivered(log)] == [
            (0, 1, b"a"),
            (1, 1, b"b"),
            (2, 2, b"c"),
            (3, 2, b"d"),
        ]
        # What is suppressed counts as sent: it was, by the process before.
        (traffic,) = again.ledger.traffic()
        assert traffic.frames == 4

    asyncio.run(main())


def test_it_goes_on_behind_a_mark() -> None:
    async def main() -> None:
        log = await new_log()
        first = Bob(log, 1)
        await first.send(b"a", b"b")
        mark = first.outbound.mark
        assert mark == LinkMark(offset=2, next_sequence=2, incarnation=1)
        await first.send(b"c", first=3)
        again = await restarted(log, 2)
        again.outbound.seek(mark)
        await again.send(b"c", b"d", first=3)
        assert [c.logged.payload for c in again.compared] == [b"c"]
        assert again.outbound.mark == LinkMark(offset=5, next_sequence=4, incarnation=2)
        assert payloads(await delivered(log)) == [b"a", b"b", b"c", b"d"]

    asyncio.run(main())


def test_a_mark_is_behind_the_frames_that_this_process_has_come_to() -> None:
    """Not behind those that an earlier one has sent: a checkpoint would skip them."""

    async def main() -> None:
        log = await new_log()
        await Bob(log, 1).send(b"a", b"b", b"c")
        again = await restarted(log, 2)
        assert again.outbound.mark == LinkMark()
        await again.send(b"a", b"b")
        assert again.outbound.mark == LinkMark(offset=2, next_sequence=2, incarnation=1)

    asyncio.run(main())


def test_a_link_without_a_frame_has_no_fence() -> None:
    async def main() -> None:
        log = await new_log()
        bob = await restarted(log, 2)
        assert log.values(TOPIC) == []
        await bob.send(b"a")
        assert [f.incarnation for f in await delivered(log)] == [2]

    asyncio.run(main())


def test_a_fence_is_no_frame() -> None:
    async def main() -> None:
        log = await new_log()
        await Bob(log, 1).send(b"a")
        for incarnation in (2, 3, 4):
            await restarted(log, incarnation)
        assert len(log.values(TOPIC)) == 4
        assert payloads(await delivered(log)) == [b"a"]

    asyncio.run(main())


@pytest.mark.parametrize("held", [0, 1])
def test_the_beginning_of_a_first_frame_is_no_frame_either(held: int) -> None:
    """A fence has number 0, so readers would take it for the frame that is missing."""

    async def main() -> None:
        log = await new_log()
        big = bytes(range(256)) * (CHUNK_BYTES // 256) * 2
        begun = records_of(big, sequence=0, incarnation=1)
        await append(log, *begun[: held + 1][:1])
        bob = await restarted(log, 2)
        if held:
            await append(log, *begun[1:])  # it was on its way
        await bob.send(big, b"b")
        assert payloads(await delivered(log)) == [big, b"b"]

    asyncio.run(main())


def test_an_older_process_that_wrote_before_the_fence_stands() -> None:
    async def main() -> None:
        log = await new_log()
        old = Bob(log, 1)
        await old.send(b"a")
        new = Bob(log, 2)
        await old.send(b"b of the old", first=2)
        await new.outbound.fence()
        await new.send(b"a", b"b of the new", b"c")
        assert payloads(await delivered(log)) == [b"a", b"b of the old", b"c"]
        assert [c.logged.payload for c in new.compared] == [b"a", b"b of the old"]
        with pytest.raises(Fenced, match="incarnation 2, this process is 1"):
            await old.send(b"c", first=3)
        assert len(await delivered(log)) == 3

    asyncio.run(main())


def test_an_older_process_that_writes_after_the_fence_is_ignored_and_learns_it() -> None:
    async def main() -> None:
        log = await new_log()
        old = Bob(log, 1)
        await old.send(b"a")
        new = await restarted(log, 2)
        await new.send(b"a", b"b")
        assert not new.outbound.is_catching_up
        with pytest.raises(Fenced) as caught:
            await old.send(b"b of the old", first=2)
        assert str(caught.value) == (
            f"another process of bob has taken over (topic {TOPIC}: incarnation 2, this process is "
            "1); nothing that this process does counts any more"
        )
        # The intruder lies between the new process's own records, which therefore reads it back.
        await new.send(b"c", b"d", first=3)
        assert payloads(await delivered(log)) == [b"a", b"b", b"c", b"d"]
        assert [
            c.computed.payload for c in new.compared if c.logged.payload == b"b of the old"
        ] == []

    asyncio.run(main())


def test_two_that_begin_on_an_empty_link_agree_on_the_first_frame() -> None:
    """Neither sees a frame, so neither fences: the first frame in the log stands."""

    async def main() -> None:
        log = await new_log()
        old, new = await restarted(log, 1), await restarted(log, 2)
        await append(log, *records_of(b"of the old", sequence=0, incarnation=1))
        await new.send(b"of the new", b"b")
        assert payloads(await delivered(log)) == [b"of the old", b"b"]
        assert [(c.computed.payload, c.logged.payload) for c in new.compared] == [
            (b"of the new", b"of the old")
        ]
        with pytest.raises(Fenced):
            await old.send(b"of the old", b"c")

    asyncio.run(main())


def test_a_newer_process_ends_this_one_at_its_next_frame() -> None:
    async def main() -> None:
        log = await new_log()
        old = Bob(log, 1)
        await old.send(b"a", b"b")
        await restarted(log, 2)
        with pytest.raises(Fenced):
            await old.send(b"c", first=3)
        assert payloads(await delivered(log)) == [b"a", b"b"]
        with pytest.raises(Fenced):
            await old.send(b"c", first=3)

    asyncio.run(main())


def test_one_that_is_fenced_while_it_catches_up_learns_it() -> None:
    async def main() -> None:
        log = await new_log()
        await Bob(log, 1).send(b"a", b"b")
        old = await restarted(log, 2)
        await restarted(log, 3)
        before = len(log.values(TOPIC))
        with pytest.raises(Fenced):
            await old.send(b"a", b"b", b"c")
        assert len(log.values(TOPIC)) == before

    asyncio.run(main())


@pytest.mark.parametrize("held", [1, 2])
def test_the_beginning_of_a_frame_is_given_up(held: int) -> None:
    async def main() -> None:
        log = await new_log()
        await Bob(log, 1).send(b"a")
        big = bytes(CHUNK_BYTES * 2 + 1)
        begun = records_of(big, sequence=1, incarnation=1)
        await append(log, *begun[:held])
        new = await restarted(log, 2)
        await new.send(b"a", big, b"c")
        assert [c.computed.payload for c in new.compared] == [b"a"]
        await append(log, *begun[held:])  # it was on its way
        await new.send(b"d", first=4)
        frames = await delivered(log)
        assert payloads(frames) == [b"a", big, b"c", b"d"]
        assert [f.incarnation for f in frames] == [1, 2, 2, 2]

    asyncio.run(main())


def test_an_earlier_last_word_is_final() -> None:
    async def main() -> None:
        log = await new_log()
        old = Bob(log, 1)
        await old.send(b"a")
        await old.outbound.send(message(Abort(reason="why")))
        new = await restarted(log, 2)
        with pytest.raises(SessionAborted, match="bob gave up in an earlier process"):
            await new.send(b"a", b"b")
        assert len(await delivered(log)) == 2

    asyncio.run(main())


def test_the_ledger_counts_what_the_log_holds() -> None:
    async def main() -> None:
        log = await new_log()
        bob = Bob(log, 1)
        await bob.send(b"x" * 600_000)
        await bob.outbound.send(message(Ready()))
        records = await log.read(TOPIC, 0)
        assert len(records) == 3
        assert bob.ledger.wire_bytes == sum(map(wire_size, records))
        kinds = {(entry.kind, entry.codec): entry for entry in bob.ledger.traffic()}
        assert kinds["activation", "c"].frames == 1
        assert 4000 < kinds["activation", "c"].raw_bytes < 4000 + 200
        assert kinds["control", "json"].wire_bytes == wire_size(records[2])
        # A process that does it again counts the same, whatever lies between in the log.
        again = await restarted(log, 2)
        await again.send(b"x" * 600_000)
        await again.outbound.send(message(Ready()))
        assert again.ledger.traffic() == bob.ledger.traffic()

    asyncio.run(main())


def test_a_payload_that_no_receiver_accepts_is_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbound_module, "MAX_FRAME_BYTES", 1000)

    async def main() -> None:
        log = await new_log()
        bob = Bob(log, 1)
        with pytest.raises(SessionAborted, match=r"activation of epoch 1, step 1 for alice.* 1001"):
            await bob.send(bytes(1001))
        assert log.values(TOPIC) == []
        assert bob.ledger.wire_bytes == 0

    asyncio.run(main())


def test_errors_of_the_log_name_peer_and_topic() -> None:
    async def main() -> None:
        log = await new_log()
        bob = Bob(log, 1)
        await bob.send(b"a")
        await log.delete_topic(TOPIC)
        with pytest.raises(UnknownTopic, match=f"cannot send control to alice .topic {TOPIC}"):
            await bob.outbound.send(message(Ready()))

    asyncio.run(main())


def test_a_broken_log_stays_a_broken_log(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        log = await new_log()

        async def broken(*_: object, **__: object) -> int:
            raise TransportBroken("no space left on device")

        monkeypatch.setattr(log, "append", broken)
        with pytest.raises(TransportError, match=f"{TOPIC}, offset 0.: no space left") as caught:
            await Bob(log, 1).send(b"a")
        assert type(caught.value) is TransportBroken

    asyncio.run(main())


# Any number of processes, stopped, killed and woken at any place ---------------------------------

SIZES = (3, 5, 2, 9, 1)
"""Of the payloads; above 4 bytes they take two or three records here."""

FRAMES = len(SIZES)


def content(frame: int, kind: int) -> bytes:
    return bytes([16 * kind + frame]) * SIZES[frame]


def first_standing(log: MemoryLog) -> list[bytes]:
    """What the log says, by the rules in :mod:`slstream.frames.link` and without its code."""
    standing: list[bytes] = []
    newest, parts = 0, b""
    index = 0
    for value in log.values(TOPIC):
        header = decode_header(value)
        if header.incarnation < newest:
            continue
        if header.incarnation > newest:
            newest, parts, index = header.incarnation, b"", 0
        if (header.sequence, header.chunk_index) != (len(standing), index):
            continue
        parts, index = parts + value[HEADER_BYTES:], index + 1
        if index == header.chunk_count:
            standing.append(parts)
            parts, index = b"", 0
    return standing


def wrote_in_vain(log: MemoryLog, incarnation: int) -> bool:
    """Whether a process has written of a frame behind a newer process.

    A fence does not count: who finds all its frames in the log need not read on to what follows.
    """
    headers = [decode_header(value) for value in log.values(TOPIC)]
    newest = accumulate((header.incarnation for header in headers), max)
    return any(
        header.incarnation == incarnation < seen and header.kind is not FrameKind.CONTROL
        for header, seen in zip(headers, newest, strict=True)
    )


@dataclass
class Process:
    """One process of bob's; ``kind`` tells the bits that it computes."""

    log: MemoryLog
    number: int
    kind: int
    marks: list[tuple[int, LinkMark]]
    """Checkpoints of all processes: frames sent, and the mark."""
    start: tuple[int, LinkMark] | None
    standing: dict[int, bytes] = field(default_factory=dict)
    """By frame: what this process believes to be on the link."""
    error: Exception | None = None
    ended: bool = False
    killed: bool = False

    def __post_init__(self) -> None:
        self.bob = Bob(self.log, self.number)
        self.running: Generator[Any, Any, None] = self._run().__await__()
        self.step(None)

    async def _run(self) -> None:
        await self.bob.outbound.fence()
        first = 0
        if self.start is not None:
            first, mark = self.start
            self.bob.outbound.seek(mark)
        for frame in range(first, FRAMES):
            computed = content(frame, self.kind)
            before = len(self.bob.compared)
            await self.bob.outbound.send(activation(computed, frame + 1))
            told = self.bob.compared[before:]
            assert len(told) <= 1, "a frame is compared once"
            assert all(entry.logged.step == frame + 1 for entry in told)
            self.standing[frame] = told[0].logged.payload if told else computed
            self.marks.append((frame + 1, self.bob.outbound.mark))

    def step(self, arrive: int | None) -> None:
        """Go on to the next stop; ``arrive`` is how many records of an append reach the log."""
        if self.ended:
            return
        try:
            self.running.send(arrive)
        except StopIteration:
            self.ended = True
        except Fenced as error:
            self.ended, self.error = True, error

    def kill(self) -> None:
        self.ended = self.killed = True
        self.running.close()


class Readers:
    """alice, in many processes: each goes on where its predecessor had been."""

    def __init__(self, log: MemoryLog) -> None:
        self.log = log
        self.frames: list[Frame] = []
        self.restart(LinkMark())

    def restart(self, mark: LinkMark) -> None:
        self.reader = LinkReader(self.log, TOPIC, "bob", Times())
        self.reader.seek(mark)

    def read(self) -> None:
        async def main() -> None:
            await self.reader.read_ahead()
            while self.reader.is_ready:
                self.frames.append(self.reader.take())

        with pytest.raises(StopIteration):  # nothing in it waits
            main().send(None)


EVENTS = ("start", "step", "step", "step", "step", "kill", "late", "read")


@settings(max_examples=250, deadline=None)
@given(
    events=st.lists(
        st.tuples(st.sampled_from(EVENTS), st.integers(0, 5), st.integers(0, 3)), max_size=60
    ),
    end=st.lists(st.integers(0, 5), min_size=1, max_size=20),
)
def test_each_frame_stands_once_whoever_wrote_it_and_every_fenced_process_learns_it(
    events: list[tuple[str, int, int]], end: list[int]
) -> None:
    with mock.patch.object(outbound_module, "FrameWriter", partial(FrameWriter, chunk_bytes=4)):
        check_history(events, end)


def check_history(events: list[tuple[str, int, int]], end: list[int]) -> None:
    log = MemoryLog(stepped=True)
    log.records[TOPIC] = []
    processes: list[Process] = []
    marks: list[tuple[int, LinkMark]] = []
    readers = Readers(log)

    def start(chosen: int, kind: int) -> None:
        mark = marks[-chosen] if 0 < chosen <= len(marks) else None
        processes.append(Process(log, len(processes) + 1, kind % 2, marks, mark))

    def alive() -> list[Process]:
        return [process for process in processes if not process.ended]

    for event, chosen, amount in events:
        if event == "start":
            start(chosen, amount)
        elif event == "late":
            log.land()
        elif event == "read":
            readers.read()
            if amount % 2:
                readers.restart(readers.reader.mark)
        elif alive():
            process = alive()[chosen % len(alive())]
            if event == "kill":
                process.step(None if amount == 3 else amount)
                process.kill()
            else:
                for _ in range(amount + 1):
                    process.step(None)
    # The last to start is not disturbed by one that starts later; older ones wake up beside it.
    start(end[0], 0)
    for chosen in cycle(end):
        if not alive():
            break
        alive()[chosen % len(alive())].step(None)
    log.land()
    readers.read()

    # Exactly once, in order; and who was there from the start has seen no other bytes.
    assert [frame.sequence for frame in readers.frames] == list(range(FRAMES))
    final = payloads(readers.frames)
    assert final == first_standing(log)
    late = Readers(log)
    late.read()
    assert payloads(late.frames) == final
    for process in processes:
        believed = [process.standing[frame] for frame in sorted(process.standing)]
        assert believed == [final[frame] for frame in sorted(process.standing)]
        if wrote_in_vain(log, process.number) and not process.killed:
            assert process.error is not None
    assert processes[-1].error is None


def test_the_schema_that_the_log_has_is_known_before_a_frame_is_computed_again() -> None:
    async def main() -> None:
        log = await new_log()
        before = Bob(log, 1)
        await before.outbound.send(message(Ready()))
        chosen = replace(activation(b"a"), schema_id=6, headers=(("choice", b"why"),))
        await before.outbound.send(chosen)
        await before.outbound.send(activation(b"b", 2))
        assert await before.outbound.logged(FrameKind.ACTIVATION) is None
        again = (await restarted(log, 2)).outbound
        assert await again.logged(FrameKind.ACTIVATION) is None, "a message comes first"
        await again.send(message(Ready()))
        assert [await again.logged(FrameKind.ACTIVATION) for _ in range(2)] == [(6, "why")] * 2
        await again.send(activation(b"a"))
        assert await again.logged(FrameKind.ACTIVATION) == (4, "")
        await again.send(activation(b"b", 2))
        assert await again.logged(FrameKind.ACTIVATION) is None
        await again.send(activation(b"c", 3))
        assert [frame.schema_id for frame in await delivered(log)] == [1, 6, 4, 4]

    asyncio.run(main())


def test_the_records_of_a_frame_have_its_headers_and_they_are_counted() -> None:
    async def main() -> None:
        log = await new_log()
        bob = Bob(log, 1)
        payload = bytes(CHUNK_BYTES + 1)
        await bob.outbound.send(replace(activation(payload), headers=(("choice", b"why"),)))
        first, second = await log.read(TOPIC, 0)
        assert [dict(r.headers)["choice"] for r in (first, second)] == [b"why"] * 2
        (counted,) = bob.ledger.traffic()
        assert counted.wire_bytes == wire_size(first) + wire_size(second)

    asyncio.run(main())


def test_appends_tell_how_fast_the_way_to_the_log_is() -> None:
    async def main() -> None:
        log = await new_log()
        bob = Bob(log, 1)
        await bob.outbound.send(message(Ready()))
        assert bob.speed.to_log.seconds_per_byte is None
        await bob.send(bytes(100_000))
        assert bob.speed.to_log.seconds_per_byte is not None

    asyncio.run(main())
