"""The layout of an archive: a strict subset of MCAP, readable with every MCAP tool.

::

    magic
    Header            profile "slstream-archive"
    Chunk ...         not compressed; each holds records of one partition, in the order of their
                      offsets. The first of a partition begins with its Channel. Each but the last
                      of a partition holds more than CHUNK_BYTES
    Attachment        manifest.json
    DataEnd           with the CRC of all before
    summary           for other tools: channels, statistics, chunk index; checked by its CRC alone
    Footer, magic

Chunks are not compressed: nearly all bytes are payloads that codecs have compressed already, and a
chunk that is stored as it is cannot expand into more memory than the file has bytes.

The library that reads MCAP files trusts them: it believes lengths up to 4 GiB, takes a short read
for a whole one, expands chunks without a bound, skips what it does not know, and takes a CRC of 0
for "not checked". Archives come from others. So this package splits a file into MCAP records
itself, within bounds, and lets the library parse single records from memory; what does not give
the same bytes when it is written again is refused.
"""

from __future__ import annotations

import io
import struct
from typing import Any, Protocol, TypeVar

from mcap.data_stream import ReadDataStream, RecordBuilder
from mcap.exceptions import McapError

from slstream.frames.link import MAX_FRAME_BYTES

MAGIC = b"\x89MCAP0\r\n"
PROFILE = "slstream-archive"
MESSAGE_ENCODING = "slstream.record.1"
PARTITION_KEY = "partition"
"""Of a channel's metadata; its topic is the record's."""

CHUNK_BYTES = 1_048_576
MAX_MESSAGE_BYTES = MAX_FRAME_BYTES + 65_536
"""Largest record with its envelope: the largest frame that a reader accepts, and its headers."""

RECORD_HEAD = struct.Struct("<BQ")
"""Opcode and length, in front of every MCAP record."""
CHUNK_HEAD = struct.Struct("<QQQIIQ")
"""Start time, end time, uncompressed bytes, CRC, bytes of the compression's name, bytes."""
MESSAGE_HEAD = struct.Struct("<BQHIQQ")
"""Opcode, length, channel, sequence, log time, publish time."""
MESSAGE_FIELDS_BYTES = MESSAGE_HEAD.size - RECORD_HEAD.size
FOOTER_BYTES = RECORD_HEAD.size + 20

MAX_SMALL_BYTES = 4096
"""Of a Header or Channel."""
MAX_CHUNK_BYTES = CHUNK_BYTES + MAX_SMALL_BYTES + MESSAGE_HEAD.size + MAX_MESSAGE_BYTES

NANOSECONDS_PER_MS = 1_000_000


class McapRecord(Protocol):
    """What the library's classes of records have in common."""

    @staticmethod
    def read(stream: ReadDataStream) -> Any:
        """Parse what follows opcode and length."""

    def write(self, stream: RecordBuilder) -> Any:
        """Write opcode, length and all."""


R = TypeVar("R", bound=McapRecord)


def parse(kind: type[R], raw: bytes) -> R:
    """Parse one MCAP record.

    Args:
        kind: a class of ``mcap.records``.
        raw: opcode, length and content, as in the file.

    Raises:
        ValueError: not exactly what the library would write for such a record.
    """
    name = kind.__name__
    try:
        record: R = kind.read(ReadDataStream(io.BytesIO(raw[RECORD_HEAD.size :])))
        builder = RecordBuilder()
        record.write(builder)
    # OverflowError: lengths above what an index can hold.
    except (McapError, struct.error, ValueError, OverflowError) as error:
        raise ValueError(f"{name}: expected a whole record, found another: {error}") from None
    if builder.end() != raw:
        raise ValueError(f"{name}: expected a record of exactly {len(raw)} bytes, found another")
    return record
