from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slstream.errors import FrameError, InvalidHeader, TruncatedFrame
from slstream.frames.chunking import (
    CHUNK_BYTES,
    PartialFrame,
    check_payload,
    chunk_count,
    chunk_frame,
    frame_of,
)
from slstream.frames.frame import Frame
from slstream.frames.header import (
    HEADER_BYTES,
    FrameHeader,
    FrameKind,
    decode_header,
    encode_header,
)

from .strategies import frames

FRAME = Frame(
    kind=FrameKind.ACTIVATION,
    schema_id=3,
    incarnation=2,
    sequence=7,
    epoch=1,
    step=17,
    micro_batch=0,
    window=2,
    payload=b"0123456789",
)


def assembled(values: list[bytes]) -> Frame | None:
    """What the values of several chunks add up to."""
    partial = PartialFrame(decode_header(values[0]), values[0])
    frame = None
    for value in values[1:]:
        frame = partial.add(decode_header(value), value)
    return frame


def with_header(value: bytes, **changes: object) -> bytes:
    header = dataclasses.replace(decode_header(value), **changes)  # type: ignore[arg-type]
    return encode_header(header) + value[HEADER_BYTES:]


def test_chunks_are_consecutive_and_carry_the_full_header() -> None:
    values = chunk_frame(FRAME, chunk_bytes=4)
    assert [value[HEADER_BYTES:] for value in values] == [b"0123", b"4567", b"89"]
    for index, value in enumerate(values):
        assert decode_header(value) == FrameHeader(
            kind=FrameKind.ACTIVATION,
            schema_id=3,
            incarnation=2,
            sequence=7,
            epoch=1,
            step=17,
            micro_batch=0,
            window=2,
            chunk_index=index,
            chunk_count=3,
            payload_bytes=10,
        )


@pytest.mark.parametrize(
    ("payload_bytes", "count"),
    [(0, 1), (1, 1), (CHUNK_BYTES, 1), (CHUNK_BYTES + 1, 2), (3 * CHUNK_BYTES, 3)],
)
def test_chunk_count(payload_bytes: int, count: int) -> None:
    assert chunk_count(payload_bytes) == count


@pytest.mark.parametrize(
    ("payload_bytes", "chunk_bytes", "message"),
    [
        (10, 0, "chunk_bytes: expected 1 or more, found 0"),
        (2**32, 2**20, "payload: expected at most 4294967295 bytes, found 4294967296"),
        (65536, 1, "chunk_bytes: 1 would cut .* expected 2 or more"),
    ],
)
def test_chunk_count_refuses(payload_bytes: int, chunk_bytes: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        chunk_count(payload_bytes, chunk_bytes)


@given(frames(), st.integers(1, 250))
def test_round_trip(frame: Frame, chunk_bytes: int) -> None:
    values = chunk_frame(frame, chunk_bytes)
    assert max(map(len, values)) <= HEADER_BYTES + chunk_bytes
    if len(values) == 1:
        assert frame_of(decode_header(values[0]), values[0][HEADER_BYTES:]) == frame
    else:
        assert assembled(values) == frame


@pytest.mark.parametrize(
    ("size", "error"),
    [(5, None), (9, None), (4, TruncatedFrame), (10, InvalidHeader), (0, TruncatedFrame)],
)
def test_first_chunk_must_fit_the_claimed_sizes(size: int, error: type[FrameError] | None) -> None:
    # 10 bytes in 2 equal chunks: the first holds 5 to 9.
    value = with_header(chunk_frame(FRAME, 5)[0][:HEADER_BYTES] + b"x" * size)
    if error is None:
        assert PartialFrame(decode_header(value), value).received == 1
    else:
        with pytest.raises(error, match=f"expected 10 bytes in 2 equal chunks, found {size} "):
            PartialFrame(decode_header(value), value)


@pytest.mark.parametrize("index", [1, 2])
@pytest.mark.parametrize(("change", "error"), [(-1, TruncatedFrame), (1, InvalidHeader)])
def test_later_chunks_must_have_their_exact_size(
    index: int, change: int, error: type[FrameError]
) -> None:
    values = chunk_frame(FRAME, 4)
    values[index] = values[index][:-1] if change < 0 else values[index] + b"x"
    with pytest.raises(error, match=rf"payload of frame 7, chunk {index} of 3: expected \d bytes"):
        assembled(values)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("kind", FrameKind.GRADIENT),
        ("schema_id", 4),
        ("epoch", 2),
        ("step", 18),
        ("micro_batch", 1),
        ("window", 3),
        ("chunk_count", 4),
        ("payload_bytes", 11),
    ],
)
def test_chunks_agree_in_every_field(field: str, value: int) -> None:
    values = chunk_frame(FRAME, 4)
    partial = PartialFrame(decode_header(values[0]), values[0])
    other = with_header(values[1], **{field: value})
    with pytest.raises(InvalidHeader, match=f"^{field}: expected .* as in chunk 0 of frame 7"):
        partial.add(decode_header(other), other)
    # The refused chunk left no trace.
    assert partial.received == 1
    assert partial.add(decode_header(values[1]), values[1]) is None
    assert partial.add(decode_header(values[2]), values[2]) == FRAME
    assert partial.values() == values
    assert partial.chunk(1) == values[1]


def test_check_payload() -> None:
    header = decode_header(chunk_frame(FRAME)[0])
    check_payload(header, 10, 10)
    with pytest.raises(TruncatedFrame, match="chunk 0 of 1: expected 10 bytes, found 9"):
        check_payload(header, 9, 10)
    with pytest.raises(InvalidHeader, match="chunk 0 of 1: expected 10 bytes, found 11"):
        check_payload(header, 11, 10)
