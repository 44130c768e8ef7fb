from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slstream.errors import (
    BadMagic,
    FrameError,
    InvalidHeader,
    TruncatedFrame,
    UnsupportedVersion,
)
from slstream.frames.header import (
    HEADER_BYTES,
    FrameHeader,
    FrameKind,
    decode_header,
    encode_header,
)

from .strategies import headers

HEADER = FrameHeader(
    kind=FrameKind.GRADIENT,
    schema_id=0x01020304,
    incarnation=0x05060708,
    sequence=0x1112131415161718,
    epoch=0x2122,
    step=0x31323334,
    micro_batch=0x4142,
    window=0x5152,
    chunk_index=0x0061,
    chunk_count=0x0062,
    payload_bytes=0x71727374,
)
# Written from the offset table by hand.
BYTES = bytes.fromhex(
    "00"  # magic
    "01020304"  # schema id
    "01"  # frame version
    "02"  # kind
    "00"  # flags
    "05060708"  # incarnation
    "1112131415161718"  # sequence
    "2122"  # epoch
    "31323334"  # step
    "4142"  # micro-batch
    "5152"  # window
    "0061"  # chunk index
    "0062"  # chunk count
    "71727374"  # payload bytes
    "0000"  # trailer bytes
)


def patched(offset: int, data: str) -> bytes:
    replacement = bytes.fromhex(data)
    return BYTES[:offset] + replacement + BYTES[offset + len(replacement) :]


def test_layout_both_ways() -> None:
    assert len(BYTES) == HEADER_BYTES == 40
    assert encode_header(HEADER) == BYTES
    assert decode_header(BYTES) == HEADER


@pytest.mark.parametrize("wrap", [bytes, bytearray, memoryview])
def test_decode_takes_any_buffer_and_ignores_what_follows(
    wrap: type[bytes | bytearray | memoryview],
) -> None:
    assert decode_header(wrap(BYTES + b"payload")) == HEADER


@pytest.mark.parametrize(
    ("kind", "number", "label"),
    [
        (FrameKind.ACTIVATION, 1, "activation"),
        (FrameKind.GRADIENT, 2, "gradient"),
        (FrameKind.EVALUATION, 3, "evaluation"),
        (FrameKind.CONTROL, 16, "control"),
        (FrameKind.IDS, 17, "ids"),
        (FrameKind.MATCH, 18, "match"),
    ],
)
def test_kind_numbers_never_change(kind: FrameKind, number: int, label: str) -> None:
    assert encode_header(dataclasses.replace(HEADER, kind=kind))[6] == number
    assert kind.label == label


@given(headers())
def test_round_trip(header: FrameHeader) -> None:
    assert decode_header(encode_header(header)) == header


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        (BYTES[:39], TruncatedFrame, "expected a frame header of 40 bytes, found 39 bytes"),
        (b"", TruncatedFrame, "found 0 bytes"),
        (patched(0, "7b"), BadMagic, "first byte: expected 0x00, found 0x7b"),
        (patched(5, "02"), UnsupportedVersion, "reads version 1, found 2"),
        (patched(6, "04"), InvalidHeader, r"kind: expected one of 1 \(activation\), .*, found 4"),
        (patched(7, "01"), UnsupportedVersion, "flags: the frame is sealed,"),
        (patched(7, "06"), UnsupportedVersion, "flags: the frame is signed and chained,"),
        (patched(7, "09"), InvalidHeader, "flags: bits 3 to 7 must be 0, found 0b00001001"),
        (patched(1, "00000000"), InvalidHeader, "schema_id: expected 1 or more, found 0"),
        (patched(8, "00000000"), InvalidHeader, "incarnation: expected 1 or more, found 0"),
        (patched(30, "0062"), InvalidHeader, "chunk_index: expected less than chunk_count 98"),
        (patched(30, "00000000"), InvalidHeader, "chunk_index: expected less than chunk_count 0"),
        (patched(34, "00000061"), InvalidHeader, "chunk_count: expected at most one chunk .* 97"),
        (patched(38, "0001"), InvalidHeader, "trailer bytes: expected 0 without flags, found 1"),
    ],
)
def test_decode_refuses(data: bytes, error: type[FrameError], message: str) -> None:
    with pytest.raises(error, match=message):
        decode_header(data)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("schema_id", 0, "schema_id: expected 1 or more"),
        ("schema_id", 2**32, "schema_id: expected an integer from 0 to 4294967295"),
        ("incarnation", 0, "incarnation: expected 1 or more"),
        ("sequence", 2**64, "sequence: expected an integer from 0 to 18446744073709551615"),
        ("sequence", -1, "sequence: .*found -1"),
        ("epoch", 2**16, "epoch: expected an integer from 0 to 65535, found 65536"),
        ("step", 1.5, "step: .*found 1.5"),
        ("chunk_index", 98, "chunk_index: expected less than chunk_count 98"),
        ("payload_bytes", 2**32, "payload_bytes: expected an integer from 0 to 4294967295"),
        ("kind", "control", "kind: expected a FrameKind, found 'control'"),
    ],
)
def test_encode_refuses_what_decode_would(field: str, value: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        encode_header(dataclasses.replace(HEADER, **{field: value}))  # type: ignore[arg-type]


@given(st.binary(max_size=64))
def test_random_bytes_raise_documented_errors_only(data: bytes) -> None:
    try:
        header = decode_header(data)
    except FrameError:
        return
    assert encode_header(header) == data[:HEADER_BYTES]


@given(headers(), st.integers(0, 8 * HEADER_BYTES - 1))
def test_a_flipped_bit_is_refused_or_read_as_another_header(header: FrameHeader, bit: int) -> None:
    data = bytearray(encode_header(header))
    data[bit // 8] ^= 1 << bit % 8
    try:
        other = decode_header(data)
    except FrameError:
        return
    assert other != header
    assert encode_header(other) == data
