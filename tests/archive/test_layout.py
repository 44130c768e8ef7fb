"""What the library would let pass, and parse() does not."""

from __future__ import annotations

import struct

import pytest
from mcap.data_stream import RecordBuilder
from mcap.records import Attachment, Channel, Footer, Header
from mcap.records import McapRecord as LibraryRecord

from slstream.archive.layout import RECORD_HEAD, McapRecord, parse

CHANNEL = Channel(id=1, topic="t", message_encoding="e", metadata={"a": "b"}, schema_id=0)
ATTACHMENT = Attachment(create_time=0, log_time=0, name="n", media_type="m", data=b"data")
FOOTER = Footer(summary_start=1, summary_offset_start=2, summary_crc=3)
HEADER = Header(profile="p", library="l")


def raw(record: LibraryRecord) -> bytes:
    builder = RecordBuilder()
    record.write(builder)
    data: bytes = builder.end()
    return data


def resized(data: bytes) -> bytes:
    """With a length in front that fits."""
    return data[:1] + struct.pack("<Q", len(data) - RECORD_HEAD.size) + data[RECORD_HEAD.size :]


@pytest.mark.parametrize("record", [CHANNEL, ATTACHMENT, FOOTER, HEADER])
def test_whole_records(record: LibraryRecord) -> None:
    assert parse(type(record), raw(record)) == record  # type: ignore[type-var]


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        (Header, resized(raw(HEADER) + b"more")),
        (Header, resized(raw(HEADER)[:-1])),  # a short read is taken for a whole one
        (Header, raw(HEADER)[:9] + b"\xff\xff\xff\xff" + raw(HEADER)[13:]),
        (Header, raw(HEADER).replace(b"p", b"\xff")),
        (Header, raw(HEADER)[:9]),
        (Footer, resized(raw(FOOTER)[:-2])),
        (Attachment, raw(ATTACHMENT)[:-1] + b"\0"),  # the CRC is not looked at
        (Attachment, raw(ATTACHMENT).replace(struct.pack("<Q", 4) + b"d", b"\xff" * 8 + b"d")),
        (Attachment, raw(ATTACHMENT).replace(struct.pack("<Q", 4) + b"d", b"\0" * 7 + b"\x40d")),
        # A name that is repeated: the last one wins.
        (Channel, resized(raw(CHANNEL)[:-14] + b"\x14\0\0\0" + 2 * b"\1\0\0\0a\1\0\0\0b")),
    ],
)
def test_anything_else_is_a_value_error(kind: type[McapRecord], data: bytes) -> None:
    with pytest.raises(ValueError, match=f"{kind.__name__}: expected a"):
        parse(kind, data)
