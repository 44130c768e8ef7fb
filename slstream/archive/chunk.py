"""One chunk of an archive: what it begins with, and its records. Bytes in, values out."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from mcap.opcode import Opcode
from mcap.records import Channel

from slstream.archive.envelope import ENVELOPE_HEAD_BYTES, decode_offset
from slstream.archive.layout import (
    CHUNK_HEAD,
    MAX_SMALL_BYTES,
    MESSAGE_ENCODING,
    MESSAGE_FIELDS_BYTES,
    MESSAGE_HEAD,
    NANOSECONDS_PER_MS,
    PARTITION_KEY,
    RECORD_HEAD,
    parse,
)

PartitionName = tuple[str, int]
"""Topic and partition."""

CONTENT_START = RECORD_HEAD.size + CHUNK_HEAD.size
"""Where in a chunk its first record begins."""

PEEK_BYTES = CONTENT_START + MAX_SMALL_BYTES + MESSAGE_HEAD.size + ENVELOPE_HEAD_BYTES
"""As much of a chunk as :func:`chunk_place` looks at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkPlace:
    """A chunk: where it lies, and what it begins with."""

    position: int
    """Of its first byte in the file."""
    length: int
    """Bytes, with opcode and length."""
    name: PartitionName
    channel_id: int
    begins_partition: bool
    first_offset: int
    messages_start: int
    """Where the first message begins, counted from :attr:`position`."""

    @property
    def content_bytes(self) -> int:
        """Bytes of its channel and messages."""
        return self.length - CONTENT_START


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchivedRecord:
    """A record as it lies in the archive."""

    offset: int
    timestamp_ms: int
    data: bytes
    """Envelope and value, see :mod:`slstream.archive.envelope`."""


def chunk_place(
    start: bytes, *, position: int, length: int, previous: ChunkPlace | None
) -> ChunkPlace:
    """Read the start of a chunk.

    Args:
        start: its first :data:`PEEK_BYTES` bytes, or all of them.
        position: of the chunk in the file.
        length: of the chunk with opcode and length.
        previous: the chunk before it in the file.

    Raises:
        ValueError: not the start of a chunk that may follow; says what was expected.
    """
    if len(start) < CONTENT_START:
        raise ValueError(f"chunk: expected {CONTENT_START} bytes or more, found {len(start)}")
    _, _, expanded, _, compression, size = CHUNK_HEAD.unpack_from(start, RECORD_HEAD.size)
    if compression:
        raise ValueError("chunk: expected one that is not compressed, found a compression")
    if not size == expanded == length - CONTENT_START:
        raise ValueError(
            f"chunk: expected {length - CONTENT_START} bytes of content, found claims of {size} "
            f"and {expanded}"
        )
    if start[CONTENT_START : CONTENT_START + 1] == bytes([Opcode.CHANNEL]):
        channel_id = previous.channel_id + 1 if previous else 1
        name, messages_start = _channel(start, channel_id)
    elif previous is not None:
        name, channel_id, messages_start = previous.name, previous.channel_id, CONTENT_START
    else:
        raise ValueError("chunk: expected the first one to begin with a channel, found none")
    begin = messages_start + MESSAGE_HEAD.size
    return ChunkPlace(
        position=position,
        length=length,
        name=name,
        channel_id=channel_id,
        begins_partition=messages_start > CONTENT_START,
        first_offset=decode_offset(start[begin : begin + ENVELOPE_HEAD_BYTES]),
        messages_start=messages_start,
    )


def _channel(start: bytes, channel_id: int) -> tuple[PartitionName, int]:
    """Topic and partition of a channel, and where it ends in the chunk."""
    head = start[CONTENT_START : CONTENT_START + RECORD_HEAD.size]
    if len(head) < RECORD_HEAD.size:
        raise ValueError("channel: expected a whole record, found the end of the chunk")
    _, size = RECORD_HEAD.unpack(head)
    end = CONTENT_START + RECORD_HEAD.size + size
    if size > MAX_SMALL_BYTES or end > len(start):
        raise ValueError(f"channel: expected at most {MAX_SMALL_BYTES} bytes, found {size}")
    channel = parse(Channel, start[CONTENT_START:end])
    text = channel.metadata.get(PARTITION_KEY, "")
    if (
        channel.id != channel_id
        or channel.message_encoding != MESSAGE_ENCODING
        or channel.schema_id != 0
        or list(channel.metadata) != [PARTITION_KEY]
        or not (text.isascii() and text.isdecimal() and len(text) < 6)
    ):
        raise ValueError(
            f"channel: expected number {channel_id} with {MESSAGE_ENCODING} and a {PARTITION_KEY}, "
            f"found {channel!r:.300}"
        )
    return (channel.topic, int(text)), end


def records_of(raw: bytes, place: ChunkPlace) -> Iterator[ArchivedRecord]:
    """The records of a chunk, after its CRC was checked.

    Args:
        raw: all of the chunk, with opcode and length.
        place: what :func:`chunk_place` said of it.

    Raises:
        ValueError: damaged; says what was expected.
    """
    _, _, _, crc, _, _ = CHUNK_HEAD.unpack_from(raw, RECORD_HEAD.size)
    if zlib.crc32(memoryview(raw)[CONTENT_START:]) != crc:
        raise ValueError("chunk: expected the CRC of its bytes, found another")
    position = place.messages_start
    while position < len(raw):
        if len(raw) - position < MESSAGE_HEAD.size:
            raise ValueError("message: expected a whole one, found the end of the chunk")
        opcode, size, channel_id, sequence, log_time, publish_time = MESSAGE_HEAD.unpack_from(
            raw, position
        )
        end = position + RECORD_HEAD.size + size
        if opcode != Opcode.MESSAGE or channel_id != place.channel_id:
            raise ValueError(
                f"chunk: expected a message of channel {place.channel_id}, found opcode {opcode} "
                f"of channel {channel_id}"
            )
        if size < MESSAGE_FIELDS_BYTES or end > len(raw):
            raise ValueError(f"message: expected it to end with its chunk, found {size} bytes")
        data = raw[position + MESSAGE_HEAD.size : end]
        offset = decode_offset(data)
        timestamp_ms, rest = divmod(log_time, NANOSECONDS_PER_MS)
        if sequence != offset & 0xFFFF_FFFF or publish_time != log_time or rest:
            raise ValueError(f"message: expected the sequence and times of offset {offset}")
        yield ArchivedRecord(offset=offset, timestamp_ms=timestamp_ms, data=data)
        position = end
