"""How many bytes a record takes on the wire and in a Kafka log.

Both transports are accounted in Kafka's format, so that their numbers can be compared: a record
batch (magic 2) that holds one record, uncompressed, without a transaction. Layout as in Apache
Kafka's documentation, "Message format"::

    record batch   61 bytes: base offset 8, length 4, leader epoch 4, magic 1, CRC 4, attributes 2,
                   last offset delta 4, first and largest timestamp 8 + 8, producer id 8,
                   producer epoch 2, base sequence 4, record count 4
    record         length varint | attributes 1 | timestamp delta varint | offset delta varint
                   key length varint, key | value length varint, value
                   header count varint, and for each: name length varint, name,
                   content length varint, content

Varints are zigzag-coded, 7 bits a byte; an absent key has length -1. The first record of a batch
has deltas of 0. Request framing is not counted: producers share one request between many records.
"""

from __future__ import annotations

from typing import Protocol

from slstream.frames.chunking import CHUNK_BYTES, chunk_count
from slstream.frames.header import HEADER_BYTES

BATCH_BYTES = 61

Headers = tuple[tuple[str, bytes], ...]


class KeyedRecord(Protocol):
    """What a size depends on: a :class:`~slstream.frames.link.FrameRecord` or a transport's."""

    @property
    def key(self) -> bytes | None:
        """May be absent."""

    @property
    def headers(self) -> Headers:
        """Pairs of name and content."""

    @property
    def value(self) -> bytes:
        """Always present."""


def wire_size(record: KeyedRecord) -> int:
    """Bytes of a batch that holds exactly this record."""
    return record_size(record.key, record.headers, len(record.value))


def frame_wire_size(
    payload_bytes: int, *, key: bytes, headers: Headers, chunk_bytes: int = CHUNK_BYTES
) -> int:
    """Bytes of all records of a frame with a payload of this size.

    Says what the same frame would have taken with another payload, for instance uncompressed.

    Raises:
        ValueError: the payload does not fit a frame with chunks of this size.
    """
    count = chunk_count(payload_bytes, chunk_bytes)
    last = payload_bytes - (count - 1) * chunk_bytes
    full = record_size(key, headers, HEADER_BYTES + chunk_bytes) if count > 1 else 0
    return (count - 1) * full + record_size(key, headers, HEADER_BYTES + last)


def record_size(key: bytes | None, headers: Headers, value_bytes: int) -> int:
    """Bytes of a batch that holds one record with a value of ``value_bytes``."""
    body = (
        3  # attributes, and the deltas of timestamp and offset, which are 0
        + (1 if key is None else _varint_size(len(key)) + len(key))
        + _varint_size(value_bytes)
        + value_bytes
        + _varint_size(len(headers))
    )
    for name, content in headers:
        name_bytes = len(name.encode())
        body += _varint_size(name_bytes) + name_bytes + _varint_size(len(content)) + len(content)
    return BATCH_BYTES + _varint_size(body) + body


def _varint_size(number: int) -> int:
    """Bytes of the zigzag varint of a number that is not negative."""
    return max(1, -(-(2 * number).bit_length() // 7))
