from __future__ import annotations

import asyncio
import random
from contextlib import suppress

import pytest
from aiokafka.record.default_records import DefaultRecordBatchBuilder

from slstream.errors import TransportBroken, TransportError
from slstream.transport.contract import Record, StoredRecord
from slstream.transport.kafka.batches import (
    BATCH_BYTES,
    Producer,
    build_batch,
    framing_size,
    parse_batches,
    record_size,
)

RECORDS = [
    Record(value=b"a" * 300, key=b"bob", headers=(("kind", b"activation"), ("step", b"1/2"))),
    Record(value=b""),
    Record(value=b"\0\xff", headers=(("", b""), ("\u00fc", b""))),
]


def batch_of(records: list[Record], base_offset: int = 0) -> bytes:
    """As a broker keeps it: the base offset is its own, and outside of the checksum."""
    data = build_batch(records, Producer(id=7, epoch=0))
    return base_offset.to_bytes(8, "big") + data[8:]


def parse(data: bytes, offset: int = 0) -> tuple[list[StoredRecord], int]:
    return asyncio.run(parse_batches("t", 0, data, offset))


def test_records_come_back_as_they_were() -> None:
    found, end = parse(batch_of(RECORDS, 5), 5)
    assert end == 8
    assert [r.offset for r in found] == [5, 6, 7]
    again = [Record(value=r.value, key=r.key, headers=r.headers) for r in found]
    assert again == RECORDS


def test_reading_begins_in_the_midst_of_a_batch_and_ends_before_one_that_is_cut_off() -> None:
    data = batch_of(RECORDS, 5) + batch_of(RECORDS, 8) + batch_of(RECORDS, 11)[:-1]
    found, end = parse(data, 7)
    assert [r.offset for r in found] == [7, 8, 9, 10]
    assert end == 11
    assert parse(b"", 7) == ([], 7)


def test_damage_is_told_with_its_place() -> None:
    data = bytearray(batch_of(RECORDS, 5))
    data[150] ^= 1
    with pytest.raises(TransportBroken, match=r"t\[0\] at offset 5: .*damaged"):
        parse(bytes(data), 5)


def test_foreign_bytes_raise_documented_errors_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("slstream.transport.kafka.batches._is_intact", lambda batch: True)
    source, whole = random.Random(5), batch_of(RECORDS) + batch_of(RECORDS, 3)
    for _ in range(3000):
        data = bytearray(whole)
        for _ in range(source.randint(1, 4)):
            data[source.randrange(len(data))] = source.randrange(256)
        with suppress(TransportError):
            parse(bytes(data[: source.randint(1, len(data))]))


def test_what_is_compressed_is_refused() -> None:
    builder = DefaultRecordBatchBuilder(2, 1, 0, -1, -1, -1, 1 << 20)  # gzip
    builder.append(0, 1234, None, bytes(1 << 20), [])
    with pytest.raises(TransportError, match=r"compression\.type to producer"):
        parse(bytes(builder.build()))


def test_what_others_leave_out_is_empty() -> None:
    builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, -1, 1 << 20)
    builder.append(0, 1234, None, None, [("none", None)])
    (found,), _ = parse(bytes(builder.build()))
    assert (found.value, found.headers, found.timestamp_ms) == (b"", (("none", b""),), 1234)


def test_sizes_count_content_and_leave_room_for_framing() -> None:
    assert [record_size(r) for r in RECORDS] == [300 + 3 + 4 + 10 + 4 + 3, 0, 4]
    for records in (RECORDS, RECORDS[:1], [Record(value=bytes(1 << 21))] * 2, RECORDS * 400):
        most = BATCH_BYTES + sum(record_size(r) + framing_size(r) for r in records)
        assert len(build_batch(records, Producer(id=1, epoch=1))) <= most


def test_sequences_begin_again() -> None:
    producer = Producer(id=1, epoch=0, sequence=(1 << 31) - 2)
    producer.advance(5)
    assert producer.sequence == 3


def test_what_has_an_old_format_is_refused() -> None:
    data = bytearray(batch_of(RECORDS))
    data[16] = 1
    with pytest.raises(TransportError, match="old format"):
        parse(bytes(data))
