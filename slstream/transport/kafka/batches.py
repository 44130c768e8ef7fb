"""Record batches: what one append becomes, and what a fetch brings."""

from __future__ import annotations

import asyncio
import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords

from slstream.errors import TransportBroken, TransportError
from slstream.transport.contract import Record, StoredRecord

BATCH_BYTES = 61
"""Kafka's framing of a batch."""

_MAGIC = 2
_LENGTH_AT = 8
_MAGIC_AT = 16
_RECORD_BYTES = 36
"""Most that frames a record: seven variable-length numbers and an attribute byte."""
_HEADER_BYTES = 10
_AT_ONCE = 1000
"""Records that are parsed without a break: some milliseconds."""
_NO_LIMIT = (1 << 31) - 1


@dataclass(slots=True, kw_only=True)
class Producer:
    """An identity that the cluster gave, by which a leader knows a batch that it has already."""

    id: int
    epoch: int
    sequence: int = 0
    """Of the next record."""

    def advance(self, records: int) -> None:
        """Count records that are in the log; Kafka's sequences begin again after 2**31."""
        self.sequence = (self.sequence + records) % (1 << 31)


def record_size(record: Record) -> int:
    """What a topic's limit counts: key, headers and value."""
    headers = sum(len(name.encode()) + len(value) for name, value in record.headers)
    return len(record.key or b"") + headers + len(record.value)


def framing_size(record: Record) -> int:
    """Most that a record takes within a batch, beside what a topic's limit counts."""
    return _RECORD_BYTES + _HEADER_BYTES * len(record.headers)


def build_batch(records: Sequence[Record], producer: Producer) -> bytes:
    """A batch of records, ready to be sent."""
    state = (producer.id, producer.epoch, producer.sequence)
    builder = DefaultRecordBatchBuilder(_MAGIC, 0, 0, *state, _NO_LIMIT)
    now_ms = time.time_ns() // 1_000_000
    for index, record in enumerate(records):
        builder.append(index, now_ms, record.key, record.value, list(record.headers))
    return bytes(builder.build())


async def parse_batches(
    topic: str, partition: int, data: bytes, offset: int
) -> tuple[list[StoredRecord], int]:
    """The records from an offset on, and the offset after all that ``data`` holds.

    A batch at the end that is cut off is left out. Many small records take a while; the event loop
    gets its turn between them.

    Raises:
        TransportBroken: the bytes are not what was written.
        TransportError: somebody compressed them.
    """
    found: list[StoredRecord] = []
    place = f"{topic}[{partition}] at offset {offset}"
    try:
        _check_format(data, place)
        batches = MemoryRecords(data)
        while batches.has_next():
            batch = batches.next_batch()
            if not _is_intact(batch):
                raise TransportBroken(f"{place}: the log's records are damaged (checksum)")
            if batch.compression_type:
                raise _foreign(place)
            for record in () if batch.is_control_batch else batch:
                if record.offset >= offset:
                    found.append(_stored(topic, partition, record))
                    if len(found) % _AT_ONCE == 0:
                        await asyncio.sleep(0)
            offset = max(offset, batch.next_offset)
    except (CorruptRecordException, UnicodeDecodeError) as error:
        raise TransportBroken(f"{place}: the log's records are damaged ({error})") from error
    return found, offset


def _check_format(data: bytes, place: str) -> None:
    """Do nothing when all batches that ``data`` holds wholly have today's format."""
    position = 0
    while position + BATCH_BYTES <= len(data):
        (length,) = struct.unpack_from(">i", data, position + _LENGTH_AT)
        end = position + _LENGTH_AT + 4 + length
        if length < BATCH_BYTES - _LENGTH_AT - 4:
            raise CorruptRecordException(f"a batch of {length} bytes")
        if end <= len(data) and data[position + _MAGIC_AT] != _MAGIC:
            raise _foreign(place)
        position = end


def _foreign(place: str) -> TransportError:
    # Frames are compressed already, and what grows when it is read has no bound.
    return TransportError(
        f"{place}: expected records as they were written, found compressed ones or of an old "
        "format; set the topic's compression.type to producer, and let nobody but the parties "
        "write to it"
    )


def _is_intact(batch: Any) -> bool:
    return bool(batch.validate_crc())


def _stored(topic: str, partition: int, record: Any) -> StoredRecord:
    return StoredRecord(
        topic=topic,
        partition=partition,
        offset=record.offset,
        timestamp_ms=record.timestamp,
        value=record.value or b"",
        key=record.key,
        headers=tuple((name, value or b"") for name, value in record.headers),
    )
