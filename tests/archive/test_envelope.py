from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slstream.archive.envelope import RecordDigest, decode_offset, decode_record, encode_record
from slstream.transport.contract import StoredRecord

RECORD = StoredRecord(
    topic="t",
    partition=2,
    offset=258,
    timestamp_ms=7,
    value=b"value",
    key=b"bob",
    headers=(("kind", b"x"), ("kind", b"")),
)

records = st.builds(
    StoredRecord,
    topic=st.just("t"),
    partition=st.just(2),
    offset=st.integers(0, 2**64 - 1),
    timestamp_ms=st.just(7),
    value=st.binary(max_size=50),
    key=st.none() | st.binary(max_size=10),
    headers=st.lists(st.tuples(st.text(max_size=8), st.binary(max_size=8)), max_size=3).map(tuple),
)


def decode(data: bytes) -> StoredRecord:
    return decode_record(data, topic="t", partition=2, timestamp_ms=7)


@given(records)
def test_a_record_comes_back_as_it_was(record: StoredRecord) -> None:
    assert decode(encode_record(record)) == record


def test_the_layout_is_the_documented_one() -> None:
    head = bytes([1]) + (258).to_bytes(8, "big") + (3).to_bytes(4, "big") + (2).to_bytes(2, "big")
    first = b"\x00\x04kind" + b"\x00\x00\x00\x01x"
    second = b"\x00\x04kind" + b"\x00\x00\x00\x00"
    assert encode_record(RECORD) == head + b"bob" + first + second + b"value"
    assert encode_record(replace(RECORD, key=None))[9:13] == b"\xff" * 4


@given(st.binary(max_size=60) | st.binary(max_size=40).map(lambda rest: b"\x01" + rest))
def test_foreign_bytes_are_a_record_or_a_value_error(data: bytes) -> None:
    try:
        record = decode(data)
    except ValueError:
        return
    assert encode_record(record) == data


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "expected 15 bytes or more, found 0"),
        (b"\x02" + bytes(14), "expected envelope version 1, found 2"),
        (b"\x01" + bytes(8) + b"\xff\xff\xff\xfe" + bytes(2), "key bytes: expected -1 or more"),
        (encode_record(RECORD)[:30], "expected .* bytes or more, found 30"),
    ],
)
def test_what_is_wrong_is_said(data: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        decode(data)


def test_the_offset_can_be_had_alone() -> None:
    assert decode_offset(encode_record(RECORD)[:15]) == 258


def test_headers_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="do not fit"):
        encode_record(replace(RECORD, headers=(("n" * 65_536, b""),)))


def digest(*records: tuple[int, bytes]) -> str:
    found = RecordDigest()
    for record in records:
        found.add(*record)
    return found.hexdigest()


def test_the_digest_sees_times_order_and_boundaries() -> None:
    same = [(1, b"ab"), (2, b"c")]
    others = [
        [(1, b"a"), (2, b"bc")],
        [(2, b"c"), (1, b"ab")],
        [(1, b"ab"), (1, b"c")],
        [(1, b"ab")],
        [*same, (3, b"")],
    ]
    assert len({digest(*each) for each in [same, *others]}) == 6
