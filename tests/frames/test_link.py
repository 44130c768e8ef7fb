from __future__ import annotations

import dataclasses
import tracemalloc
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slstream.errors import (
    FrameError,
    FrameTooLarge,
    InvalidHeader,
    SequenceError,
    TruncatedFrame,
)
from slstream.frames.chunking import chunk_frame
from slstream.frames.frame import Frame
from slstream.frames.header import HEADER_BYTES, FrameKind, decode_header, encode_header
from slstream.frames.link import FrameReader, FrameWriter, LinkPosition, LinkStatistics


def frame(sequence: int, incarnation: int = 1, payload: bytes = b"0123456789") -> Frame:
    return Frame(
        kind=FrameKind.ACTIVATION,
        schema_id=3,
        incarnation=incarnation,
        sequence=sequence,
        epoch=1,
        step=sequence,
        micro_batch=0,
        window=2,
        payload=payload,
    )


def records(sequence: int, incarnation: int = 1, payload: bytes = b"0123456789") -> list[bytes]:
    """Three chunks."""
    return chunk_frame(frame(sequence, incarnation, payload), 4)


def push_all(reader: FrameReader, values: Sequence[bytes]) -> list[Frame]:
    return [f for value in values if (f := reader.push(value)) is not None]


# Writing


def test_write_numbers_frames_and_labels_records() -> None:
    writer = FrameWriter(sender="bob", incarnation=2, next_sequence=5, chunk_bytes=4)
    written = writer.write(
        kind=FrameKind.GRADIENT, schema_id=9, payload=b"012345", epoch=3, step=17, window=1
    )
    assert [r.key for r in written] == [b"bob", b"bob"]
    assert {r.headers for r in written} == {(("kind", b"gradient"), ("step", b"3/17"))}
    assert [decode_header(r.value).chunk_index for r in written] == [0, 1]
    assert {decode_header(r.value).sequence for r in written} == {5}
    assert writer.position == LinkPosition(next_sequence=6, incarnation=2)


def test_a_refused_frame_uses_no_number() -> None:
    writer = FrameWriter(sender="bob", incarnation=1)
    with pytest.raises(ValueError, match="epoch"):
        writer.write(kind=FrameKind.CONTROL, schema_id=1, payload=b"", epoch=70_000)
    with pytest.raises(ValueError, match="schema_id"):
        writer.write(kind=FrameKind.CONTROL, schema_id=0, payload=b"")
    assert writer.position == LinkPosition(next_sequence=0, incarnation=1)


@pytest.mark.parametrize(
    ("incarnation", "chunk_bytes", "message"),
    [(0, 4, "incarnation: expected 1 or more"), (1, 0, "chunk_bytes: expected 1 or more")],
)
def test_writer_refuses(incarnation: int, chunk_bytes: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FrameWriter(sender="bob", incarnation=incarnation, chunk_bytes=chunk_bytes)


@given(st.lists(st.binary(max_size=50), max_size=10), st.integers(1, 20))
def test_what_is_written_is_read(payloads: list[bytes], chunk_bytes: int) -> None:
    writer = FrameWriter(sender="bob", incarnation=1, chunk_bytes=chunk_bytes)
    reader = FrameReader()
    for sequence, payload in enumerate(payloads):
        written = writer.write(
            kind=FrameKind.ACTIVATION,
            schema_id=3,
            payload=payload,
            epoch=1,
            step=sequence,
            window=2,
        )
        assert push_all(reader, [r.value for r in written]) == [frame(sequence, payload=payload)]
    assert reader.position.next_sequence == writer.position.next_sequence


# Reading: sizes, before anything is stored


def test_a_claimed_size_is_refused_before_anything_is_allocated() -> None:
    value = records(0)[0]
    claim = dataclasses.replace(decode_header(value), payload_bytes=2**32 - 1, chunk_count=65535)
    huge = encode_header(claim) + value[HEADER_BYTES:]
    reader = FrameReader()
    tracemalloc.start()
    try:
        with pytest.raises(FrameTooLarge, match="at most 67108864 bytes, found a claim of 429496"):
            reader.push(huge)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 100_000


def test_a_large_claim_within_the_budget_takes_memory_only_as_bytes_come() -> None:
    payload_bytes = 60_000_000
    first = chunk_frame(frame(0, payload=bytes(payload_bytes)), 1000)[0]
    reader = FrameReader()
    tracemalloc.start()
    try:
        assert reader.push(first) is None
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 100_000


def test_byte_budget_is_a_setting() -> None:
    reader = FrameReader(max_frame_bytes=9)
    with pytest.raises(FrameTooLarge, match="payload of frame 0: expected at most 9 bytes"):
        reader.push(records(0)[0])
    with pytest.raises(FrameTooLarge, match="record: expected at most 49 bytes, found 50"):
        reader.push(chunk_frame(frame(0))[0])
    assert len(push_all(FrameReader(max_frame_bytes=10), records(0))) == 1


@pytest.mark.parametrize(
    ("value", "error"),
    [
        (chunk_frame(frame(0))[0][:-1], TruncatedFrame),
        (chunk_frame(frame(0))[0] + b"x", InvalidHeader),
    ],
)
def test_a_single_record_must_hold_exactly_its_payload(
    value: bytes, error: type[FrameError]
) -> None:
    with pytest.raises(error, match="expected 10 bytes, found"):
        FrameReader().push(value)


# Reading: order


@pytest.mark.parametrize(
    ("before", "value", "message"),
    [
        ([], records(1)[0], "expected frame 0, chunk 0, found frame 1, chunk 0"),
        ([], records(0)[1], "begin with chunk 0 of a frame, found frame 0, chunk 1 of incarn"),
        (records(0)[:1], records(0)[2], "expected frame 0, chunk 1, found frame 0, chunk 2"),
        (records(0)[:2], records(1)[0], "expected frame 0, chunk 2, found frame 1, chunk 0"),
        (records(0), records(2)[0], "expected frame 1, chunk 0, found frame 2, chunk 0"),
        (records(0), records(2, 2)[0], "expected frame 1, chunk 0, found frame 2"),
        (records(0), records(1, 2)[1], "expected a new incarnation to begin with chunk 0"),
        (records(0), records(0, 2)[1], "expected a new incarnation to begin with chunk 0"),
        (records(0), records(0, payload=b"9876543210")[0], "two processes of the sending party"),
        (records(0)[:2], records(0, payload=b"9876543210")[1], "run under one incarnation"),
        (records(0), chunk_frame(frame(0))[0], "expected a repetition to have the same bytes"),
        (chunk_frame(frame(0)), records(0)[2], "expected a repetition to have the same bytes"),
    ],
    ids=[str(number) for number in range(12)],
)
def test_what_breaks_the_order_is_refused_and_changes_nothing(
    before: list[bytes], value: bytes, message: str
) -> None:
    reader, undisturbed = FrameReader(), FrameReader()
    push_all(reader, before)
    push_all(undisturbed, before)
    with pytest.raises(SequenceError, match=message):
        reader.push(value)
    assert reader.position == undisturbed.position
    assert reader.statistics == undisturbed.statistics
    rest = [v for v in records(0) + records(1) if v not in before]
    if before != chunk_frame(frame(0)):
        assert push_all(reader, rest) == push_all(undisturbed, rest) != []


def test_a_repetition_is_ignored_and_counted() -> None:
    reader = FrameReader()
    zero, one = records(0), records(1)
    values = [zero[0], zero[0], zero[1], zero[0], zero[1], zero[2], *zero, one[0], *zero, *one]
    assert push_all(reader, values) == [frame(0), frame(1)]
    assert reader.statistics == LinkStatistics(
        records=16, frames=2, duplicates=10, fenced=0, abandoned=0
    )


def test_a_repetition_older_than_what_is_remembered_is_ignored_unseen() -> None:
    reader = FrameReader()
    for sequence in range(300):
        reader.push(chunk_frame(frame(sequence))[0])
    with pytest.raises(SequenceError):
        reader.push(chunk_frame(frame(299, payload=b"other"))[0])
    assert reader.push(chunk_frame(frame(0, payload=b"other"))[0]) is None
    assert reader.statistics.duplicates == 1


def test_remembered_records_are_bounded_in_bytes() -> None:
    reader = FrameReader()
    tracemalloc.start()
    try:
        for sequence in range(30):
            reader.push(chunk_frame(frame(sequence, payload=bytes(1_000_000)), 1_000_000)[0])
        held = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert held < 6_000_000


# Reading: incarnations


def test_an_older_incarnation_is_fenced() -> None:
    reader = FrameReader()
    values = [*records(0), *records(1, 2), *records(1), *records(2), *records(2, 2)]
    assert push_all(reader, values) == [frame(0), frame(1, 2), frame(2, 2)]
    assert reader.statistics == LinkStatistics(
        records=15, frames=3, duplicates=0, fenced=6, abandoned=0
    )
    assert reader.position == LinkPosition(next_sequence=3, incarnation=2)


def test_a_new_incarnation_repeats_the_frame_that_was_left_incomplete() -> None:
    reader = FrameReader()
    values = [*records(0)[:2], *records(0, 3), records(0)[2]]
    assert push_all(reader, values) == [frame(0, 3)]
    assert reader.statistics == LinkStatistics(
        records=6, frames=1, duplicates=0, fenced=1, abandoned=1
    )


def test_a_claim_that_came_too_late_fences_but_does_not_replace() -> None:
    # The old process finished frame 1 just before the new one, which had not seen it, claimed it.
    reader = FrameReader()
    late = records(1, 2, payload=b"ABCDEFGHIJ")
    values = [*records(0), *records(1), *late, *records(2), *records(2, 2)]
    assert push_all(reader, values) == [frame(0), frame(1), frame(2, 2)]
    assert reader.statistics == LinkStatistics(
        records=15, frames=3, duplicates=3, fenced=3, abandoned=0
    )


def test_a_late_claim_abandons_what_the_fenced_process_had_begun() -> None:
    reader = FrameReader()
    values = [*records(0), records(1)[0], *records(0, 2), *records(1)[1:], *records(1, 2)]
    assert push_all(reader, values) == [frame(0), frame(1, 2)]
    assert reader.statistics.abandoned == 1


def test_resumes_from_a_position() -> None:
    reader = FrameReader(position=LinkPosition(next_sequence=2, incarnation=3))
    assert push_all(reader, records(2, 2)) == []
    assert push_all(reader, records(1, 3, payload=b"forgotten?")) == []
    assert push_all(reader, records(2, 3)) == [frame(2, 3)]


# Against a model: it keeps everything, and knows records as (incarnation, sequence, chunk, tag)

Step = tuple[int, int, int, int]
CHUNKS = 2


class Model:
    def __init__(self) -> None:
        self.incarnation = 0
        self.delivered: list[dict[int, Step]] = []
        self.begun: dict[int, Step] = {}

    def push(self, step: Step) -> str:
        incarnation, sequence, chunk, _ = step
        if incarnation < self.incarnation:
            return "fenced"
        newer = incarnation > self.incarnation
        begun = {} if newer else self.begun
        place = (len(self.delivered), len(begun))
        if (newer and chunk != 0) or (sequence, chunk) > place:
            return "error"
        if (sequence, chunk) < place:
            earlier = self.delivered[sequence] if sequence < place[0] else begun
            if not newer and earlier[chunk][0] == incarnation and earlier[chunk] != step:
                return "error"
            outcome = "duplicate"
        else:
            begun = {**begun, chunk: step}
            outcome = "taken"
        self.begun = begun
        self.incarnation = incarnation
        if len(begun) == CHUNKS:
            if len({s[3] for s in begun.values()}) > 1:
                raise AssertionError("the strategy keeps the tag equal within a frame")
            self.delivered.append(begun)
            self.begun = {}
            outcome = "frame"
        return outcome


def value_of(step: Step) -> bytes:
    incarnation, sequence, chunk, tag = step
    payload = bytes([tag]) * 8
    return chunk_frame(frame(sequence, incarnation, payload), 8 // CHUNKS)[chunk]


@st.composite
def logs(draw: st.DrawFn) -> list[Step]:
    """Mostly what senders would append, with repetitions, losses, restarts and strangers."""
    log: list[Step] = []
    incarnation, sequence, tag = 1, 0, 0
    for _ in range(draw(st.integers(1, 25))):
        match draw(st.sampled_from(["go", "go", "go", "half", "again", "restart", "any"])):
            case "go":
                log += [(incarnation, sequence, chunk, tag) for chunk in range(CHUNKS)]
                sequence += 1
            case "half":
                log.append((incarnation, sequence, 0, tag))
            case "again" if log:
                log += draw(st.lists(st.sampled_from(log), min_size=1, max_size=3))
            case "restart":
                incarnation += 1
                sequence = max(0, sequence - draw(st.integers(0, 2)))
                tag = draw(st.integers(0, 1))
            case _:
                number = draw(st.integers(0, sequence + 1))
                log.append(
                    (draw(st.integers(1, incarnation + 1)), number, draw(st.integers(0, 1)), 0)
                )
    return log


@given(logs())
def test_reader_agrees_with_the_model(log: list[Step]) -> None:
    model, reader = Model(), FrameReader()
    outcomes = {"fenced": 0, "duplicate": 0, "taken": 0, "frame": 0, "error": 0}
    for step in log:
        # Chunks of one frame that differ in content alone are one frame to the reader.
        if step[2] == 1 and model.begun and model.begun[0][3] != step[3]:
            continue
        outcome = model.push(step)
        outcomes[outcome] += 1
        if outcome == "error":
            with pytest.raises(SequenceError):
                reader.push(value_of(step))
        else:
            found = reader.push(value_of(step))
            expected = frame(step[1], step[0], bytes([step[3]]) * 8) if outcome == "frame" else None
            assert found == expected
    assert reader.position == LinkPosition(
        next_sequence=len(model.delivered), incarnation=model.incarnation
    )
    statistics = reader.statistics
    assert statistics.frames == outcomes["frame"]
    assert statistics.fenced == outcomes["fenced"]
    assert statistics.duplicates == outcomes["duplicate"]
    assert statistics.records == sum(outcomes.values()) - outcomes["error"]


@given(logs(), st.data())
def test_a_resumed_reader_delivers_what_the_first_one_would_have(
    log: list[Step], data: st.DataObject
) -> None:
    first = FrameReader()
    points = [(0, first.position)]
    frames: list[Frame] = []
    kept: list[bytes] = []
    for step in log:
        try:
            found = first.push(value_of(step))
        except SequenceError:
            continue
        kept.append(value_of(step))
        if found is not None:
            frames.append(found)
            points.append((len(kept), first.position))
    offset, position = data.draw(st.sampled_from(points))
    resumed = FrameReader(position=position)
    assert push_all(resumed, kept[offset:]) == frames[position.next_sequence :]
    assert resumed.position == first.position


# Hostile bytes


@given(st.lists(st.binary(max_size=60), max_size=5))
def test_random_bytes_raise_documented_errors_only(values: list[bytes]) -> None:
    reader = FrameReader()
    for value in values:
        with pytest.raises(FrameError):
            reader.push(value)


@given(
    st.lists(
        st.tuples(st.integers(0, 11), st.integers(0, 51), st.integers(0, 255), st.integers(0, 52)),
        min_size=1,
        max_size=12,
    )
)
def test_damaged_records_raise_documented_errors_only(
    damages: list[tuple[int, int, int, int]],
) -> None:
    log = [*records(0), *records(1), *records(1, 2), *records(2, 2)]
    for index, offset, mask, length in damages:
        damaged = bytearray(log[index])
        if offset < len(damaged):
            damaged[offset] ^= mask
        log[index] = bytes(damaged[:length] if length < 40 else damaged)
    reader = FrameReader(max_frame_bytes=1000)
    for value in log:
        before = (reader.position, reader.statistics)
        try:
            reader.push(value)
        except FrameError:
            assert (reader.position, reader.statistics) == before


def fenced_link() -> list[bytes]:
    """A frame of incarnation 1, the fence of incarnation 2, a late frame of incarnation 1."""
    old = FrameWriter(sender="bob", incarnation=1)
    new = FrameWriter(sender="bob", incarnation=2, next_sequence=1)
    frame = {"kind": FrameKind.ACTIVATION, "schema_id": 4, "epoch": 1}
    first = old.write(payload=b"first", step=1, **frame)[0]  # type: ignore[arg-type]
    late = old.write(payload=b"late", step=2, **frame)[0]  # type: ignore[arg-type]
    next_one = new.write(payload=b"next", step=2, **frame)[0]  # type: ignore[arg-type]
    return [record.value for record in (first, new.fence(), late, next_one)]


def test_a_fence_is_taken_for_no_frame_and_shuts_older_processes_out() -> None:
    reader = FrameReader()
    frames = [reader.push(value) for value in fenced_link()]
    assert [frame and frame.payload for frame in frames] == [b"first", None, None, b"next"]
    assert reader.statistics.fenced == reader.statistics.duplicates == 1
    assert reader.position.incarnation == 2


def test_a_fence_says_what_it_is_to_who_looks_at_the_topic() -> None:
    record = FrameWriter(sender="bob", incarnation=2).fence()
    assert (record.key, record.headers) == (b"bob", (("kind", b"fence"),))
    header = decode_header(record.value)
    assert (header.sequence, header.incarnation, header.payload_bytes) == (0, 2, 0)


def test_a_fence_uses_no_number_up() -> None:
    writer = FrameWriter(sender="bob", incarnation=2, next_sequence=7)
    writer.fence()
    assert writer.position.next_sequence == 7
