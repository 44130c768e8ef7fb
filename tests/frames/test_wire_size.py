from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slstream.frames.header import FrameKind
from slstream.frames.link import FrameRecord, FrameWriter, record_headers
from slstream.frames.wire_size import Headers, frame_wire_size, record_size, wire_size
from slstream.transport.contract import Record


def varint(number: int) -> bytes:
    zigzag = number * 2 if number >= 0 else -number * 2 - 1
    out = bytearray()
    while zigzag > 127:
        out.append(zigzag & 127 | 128)
        zigzag >>= 7
    return bytes([*out, zigzag])


def batch(key: bytes | None, headers: Headers, value: bytes) -> bytes:
    """A Kafka record batch of one record, with zeros where the content does not matter."""
    body = bytes(1) + varint(0) + varint(0)
    body += varint(-1) if key is None else varint(len(key)) + key
    body += varint(len(value)) + value + varint(len(headers))
    for name, content in headers:
        body += varint(len(name.encode())) + name.encode() + varint(len(content)) + content
    record = varint(len(body)) + body
    after_length = struct.pack(">ibIhiqqqhii", 0, 2, 0, 0, 0, 0, 0, -1, -1, -1, 1) + record
    return struct.pack(">qi", 0, len(after_length)) + after_length


def test_a_small_record_by_hand() -> None:
    record = FrameRecord(
        key=b"bob", headers=(("kind", b"gradient"), ("step", b"3/17")), value=b"v" * 50
    )
    # batch 61; length of the record 1 (84 > 63: 2); attributes and deltas 3; key 1 + 3;
    # value 1 + 50; header count 1; kind 1 + 4 + 1 + 8; step 1 + 4 + 1 + 4.
    assert wire_size(record) == 61 + 2 + 3 + 4 + 51 + 1 + 14 + 10 == 146


def test_sizes_at_varint_borders_by_hand() -> None:
    # 3 + 1 (no key) + 1 (value length) + n + 1 (no headers) = n + 6: one length byte up to 63.
    assert record_size(None, (), 57) == 61 + 1 + 63
    assert record_size(None, (), 58) == 61 + 2 + 64
    assert record_size(None, (), 0) == 61 + 1 + 6


@given(
    st.none() | st.binary(max_size=100),
    st.lists(st.tuples(st.text(max_size=40), st.binary(max_size=80)), max_size=3).map(tuple),
    st.binary(max_size=300) | st.sampled_from([8191, 8192, 1_048_575, 1_048_576]).map(bytes),
)
def test_equals_a_batch_built_independently(
    key: bytes | None, headers: Headers, value: bytes
) -> None:
    expected = len(batch(key, headers, value))
    assert wire_size(Record(key=key, headers=headers, value=value)) == expected


@pytest.mark.parametrize("payload_bytes", [0, 1, 99, 100, 101, 200, 350])
def test_frame_wire_size_is_the_sum_over_its_records(payload_bytes: int) -> None:
    writer = FrameWriter(sender="bob", incarnation=1, chunk_bytes=100)
    written = writer.write(
        kind=FrameKind.GRADIENT, schema_id=1, payload=bytes(payload_bytes), epoch=3, step=17
    )
    headers = record_headers(FrameKind.GRADIENT, 3, 17)
    size = frame_wire_size(payload_bytes, key=b"bob", headers=headers, chunk_bytes=100)
    assert size == sum(map(wire_size, written))
