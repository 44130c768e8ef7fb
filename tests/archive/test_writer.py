from __future__ import annotations

import io
from dataclasses import replace

import pytest

from slstream.archive.layout import MAX_MESSAGE_BYTES
from slstream.archive.writer import ArchiveWriter
from slstream.errors import ArchiveError
from slstream.transport.contract import StoredRecord, TopicConfig

RECORD = StoredRecord(
    topic="f.a-to-b.s", partition=0, offset=3, timestamp_ms=5, value=b"v", key=None, headers=()
)


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (replace(RECORD, timestamp_ms=-1), r"offset 3: expected a timestamp from 0 .*, found -1"),
        (replace(RECORD, timestamp_ms=2**60), "expected a timestamp"),
        (replace(RECORD, value=bytes(MAX_MESSAGE_BYTES)), "expected a record of at most"),
        (replace(RECORD, headers=(("n" * 2**16, b""),)), "offset 3: the record's headers"),
    ],
)
def test_a_record_that_has_no_place_is_refused(record: StoredRecord, message: str) -> None:
    writer = ArchiveWriter(io.BytesIO())
    with pytest.raises(ArchiveError, match=message):
        writer.partition(RECORD.topic, 0).add(record)


def test_what_is_no_session_is_refused() -> None:
    with pytest.raises(ArchiveError, match=r"session s cannot be archived: .*lobby topic"):
        ArchiveWriter(io.BytesIO()).finish("f", "s")


def test_a_manifest_that_no_reader_would_take_is_not_written() -> None:
    writer = ArchiveWriter(io.BytesIO())
    entry = writer.partition("f.lobby", 0).finish()
    for topic in (*(f"f.a{n}-to-b.s" for n in range(30)), "f.lobby", "f.schemas"):
        writer.add_topic(topic, TopicConfig(partitions=1024), (entry,) * 1024)
    with pytest.raises(ArchiveError, match=r"expected (a manifest of at most|each once|topics)"):
        writer.finish("f", "s")
