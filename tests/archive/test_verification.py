"""No damage passes, and none is anything but an ArchiveError."""

from __future__ import annotations

import json
import struct
import tracemalloc
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mcap.reader import make_reader
from mcap.writer import CompressionType, IndexType

from slstream.archive.layout import MAGIC
from slstream.archive.verification import verify
from slstream.errors import ArchiveError
from slstream.transport.contract import StoredRecord
from tests.archive.rebuilding import (
    Edit,
    Message,
    manifest_of,
    messages_of,
    renumbered,
    rewrite,
    write_messages,
)
from tests.archive.sessions import DOWN, INCARNATIONS, LOBBY, SCHEMAS, SESSION, UP, make_archive


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive that tests copy, never change."""
    return make_archive(tmp_path_factory.mktemp("archive"), count=3, size=20)


@pytest.fixture
def copy(original: Path, tmp_path: Path) -> Path:
    path = tmp_path / "copy.mcap"
    path.write_bytes(original.read_bytes())
    return path


def refused(path: Path, data: bytes) -> str:
    """Verify other bytes; any error but ArchiveError fails the test."""
    path.write_bytes(data)
    with pytest.raises(ArchiveError) as caught:
        verify(path)
    assert str(path) in str(caught.value)
    return str(caught.value)


# Bytes ------------------------------------------------------------------------------------------


def test_every_byte_is_covered(original: Path, copy: Path) -> None:
    data = original.read_bytes()
    verify(copy)
    # All of the structure at both ends, and places all over the records.
    ends = [*range(0, 120, 2), *range(len(data) - 250, len(data), 3)]
    for place in [*ends, *range(120, len(data) - 250, 17)]:
        mask = 1 << place % 8
        refused(copy, data[:place] + bytes([data[place] ^ mask]) + data[place + 1 :])


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(draw=st.data())
def test_no_damage_passes(original: Path, copy: Path, draw: st.DataObject) -> None:
    data = original.read_bytes()
    start = draw.draw(st.integers(0, len(data) - 1))
    end = draw.draw(st.integers(start, min(len(data), start + 200)))
    junk = draw.draw(st.binary(max_size=200))
    damaged = data[:start] + junk + data[end:]
    if damaged != data:
        refused(copy, damaged)


def test_no_beginning_of_a_file_passes(original: Path, copy: Path) -> None:
    data = original.read_bytes()
    for length in [
        *range(0, 300, 3),
        *range(300, len(data) - 90, 53),
        *range(len(data) - 90, len(data)),
    ]:
        refused(copy, data[:length])


def test_what_is_appended_is_seen(original: Path, copy: Path) -> None:
    data = original.read_bytes()
    for more in (b"\0", MAGIC, data, data[-37:]):
        refused(copy, data + more)


def test_huge_claims_cost_no_memory(original: Path, copy: Path) -> None:
    """Lengths in front of records, strings and data, each set to what a u32 or u64 can claim."""
    data = original.read_bytes()
    claims = [2**64 - 1, 2**63, 2**62, 2**40, 2**32 - 1, 2**31, 70_000_000]
    tracemalloc.start()
    try:
        for place in [*range(8, 260, 5), *range(len(data) - 900, len(data) - 8, 17)]:
            claim = struct.pack("<Q", claims[place % len(claims)])
            if claim != data[place : place + 8]:
                refused(copy, data[:place] + claim + data[place + 8 :])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2_000_000


# Files that are something else ------------------------------------------------------------------


@pytest.mark.parametrize("data", [b"", b"x", b"{}", MAGIC, MAGIC * 2, MAGIC + bytes(200) + MAGIC])
def test_other_files(copy: Path, data: bytes) -> None:
    refused(copy, data)


def test_no_file_and_a_folder(tmp_path: Path) -> None:
    with pytest.raises(ArchiveError, match=r"cannot open the archive .*none: No such file"):
        verify(tmp_path / "none")
    with pytest.raises(ArchiveError, match="cannot read"):
        verify(tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"compression": CompressionType.ZSTD}, "not compressed"),
        ({"compression": CompressionType.LZ4}, "not compressed"),
        ({"profile": "ros2"}, "recording of something else"),
        ({"encoding": "json"}, "expected number 1 with slstream.record.1"),
        ({"chunk_size": 100}, "expected the one before to hold more than 1048576 bytes"),
        ({"indexes": IndexType.ALL}, "expected a record ATTACHMENT"),
        ({"attachment": "other.json"}, "expected the attachment manifest.json"),
        ({"chunked": False}, "expected a record ATTACHMENT"),
    ],
)
def test_other_mcap_files(copy: Path, options: dict[str, object], message: str) -> None:
    messages, manifest = messages_of(copy), manifest_of(copy)
    write_messages(copy, messages, manifest)
    verify(copy)  # without the option it is an archive
    write_messages(copy, messages, manifest, **options)  # type: ignore[arg-type]
    with pytest.raises(ArchiveError, match=message):
        verify(copy)


# Records, with checksums of MCAP that fit -------------------------------------------------------


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(draw=st.data())
def test_no_change_of_the_records_passes(original: Path, copy: Path, draw: st.DataObject) -> None:
    messages, manifest = messages_of(original), manifest_of(original)
    changed = list(messages)
    place, other = (draw.draw(st.integers(0, len(messages) - 1)) for _ in range(2))
    match draw.draw(st.sampled_from(["drop", "repeat", "swap", "move", "flip", "cut", "time"])):
        case "drop":
            del changed[place]
        case "repeat":
            changed.insert(other, changed[place])
        case "swap":
            changed[place], changed[other] = changed[other], changed[place]
        case "move":
            changed.insert(other, changed.pop(place))
        case "flip":
            changed[place] = flipped(changed[place], draw.draw(st.integers(0, 2**20)))
        case "cut":
            changed[place] = replace(changed[place], data=changed[place].data[:-1])
        case "time":
            changed[place] = replace(changed[place], timestamp_ms=1)
    write_messages(copy, changed, manifest)
    if changed == messages:
        verify(copy)
        return
    with pytest.raises(ArchiveError):
        verify(copy)


def flipped(message: Message, place: int) -> Message:
    data = bytearray(message.data)
    data[place % len(data)] ^= 1 << place % 8
    return replace(message, data=bytes(data))


def test_records_of_another_archive_are_seen(original: Path, copy: Path, tmp_path: Path) -> None:
    """Another log of a session of the same name: only what is in the records differs."""
    other = messages_of(make_archive(tmp_path / "other_log", count=3, size=21))
    messages, manifest = messages_of(original), manifest_of(original)
    for topic in (UP, DOWN):
        spliced = [
            next(m for m in other if (m.topic, m.offset) == (mine.topic, mine.offset))
            if mine.topic == topic
            else mine
            for mine in messages
        ]
        write_messages(copy, spliced, manifest)
        with pytest.raises(ArchiveError, match=r"value_bytes|sha256"):
            verify(copy)


def test_a_manifest_of_another_archive_is_seen(original: Path, copy: Path, tmp_path: Path) -> None:
    manifest = manifest_of(make_archive(tmp_path / "other_log", count=4))
    write_messages(copy, messages_of(original), manifest)
    with pytest.raises(ArchiveError):
        verify(copy)


def test_every_number_of_the_manifest_is_compared(original: Path, copy: Path) -> None:
    document = json.loads(manifest_of(original))
    messages = messages_of(original)
    for index, entry in enumerate(document["topics"]):
        for field, value in entry["partitions"][0].items():
            changed = json.loads(json.dumps(document))
            wrong = "0" * 64 if field == "sha256" else value + 1
            changed["topics"][index]["partitions"][0][field] = wrong
            data = json.dumps(changed, sort_keys=True, separators=(",", ":")).encode()
            write_messages(copy, messages, data)
            with pytest.raises(ArchiveError):
                verify(copy)


def test_a_huge_end_in_the_manifest_costs_no_memory(original: Path, copy: Path) -> None:
    document = json.loads(manifest_of(original))
    (up,) = (entry for entry in document["topics"] if entry["topic"] == UP)
    up["partitions"][0] |= {"records": 2**53 - 1, "end_offset": 2**53 - 1}
    data = json.dumps(document, sort_keys=True, separators=(",", ":")).encode()
    write_messages(copy, messages_of(original), data)
    with pytest.raises(ArchiveError, match=f"from offset 0 to {2**53 - 2} without a gap"):
        verify(copy)


# Records, with a manifest that fits as well -----------------------------------------------------


def without(*places: int) -> Edit:
    def edit(records: list[StoredRecord]) -> list[StoredRecord]:
        return renumbered([each for n, each in enumerate(records) if n not in places])

    return edit


def swapped(records: list[StoredRecord]) -> list[StoredRecord]:
    records[1], records[2] = records[2], records[1]
    return renumbered(records)


def other_session(records: list[StoredRecord]) -> list[StoredRecord]:
    return [*records, replace(records[-1], offset=9, value=b'{"session":"s2"}')]


@pytest.mark.parametrize(
    ("topic", "edit", "message"),
    [
        (
            UP,
            without(1),
            r"bob-to-alice.*\[0\], offset 1: expected frame 1, chunk 0, found frame 2",
        ),
        (UP, swapped, "records of this link were lost"),
        (SCHEMAS, without(2), "schema id 3: expected one of"),
        (SCHEMAS, without(0), "schema 1: expected one of control frames"),
        (LOBBY, without(0), "expected an announcement of session"),
        (LOBBY, other_session, "offset 9: expected a record of session"),
        (INCARNATIONS, without(0), "expected a record of session"),
        (INCARNATIONS, other_session, "offset 9: expected a record of session"),
        (UP, lambda records: records[1:], "expected .* records up to offset"),
    ],
)
def test_what_the_log_itself_may_not_hold(copy: Path, topic: str, edit: Edit, message: str) -> None:
    with pytest.raises(ArchiveError, match=message):
        verify(rewrite(copy, topic, edit))


def test_a_repeated_record_of_a_link_is_what_a_log_may_hold(copy: Path) -> None:
    """Negative control of the tests above: what rewrite() writes can pass."""
    twice = rewrite(copy, UP, lambda records: renumbered([*records, records[-1]]))
    assert verify(twice).frames == 2 * 4 + 3


def lobby(kind: str, incarnation: int, **fields: str) -> bytes:
    document = {"type": kind, "session": SESSION, "incarnation": incarnation, **fields}
    return json.dumps(document).encode()


@pytest.mark.parametrize(
    ("more", "outcome"),
    [
        ([], "open"),
        ([lobby("close", 1, outcome="first"), lobby("close", 1, outcome="second")], "first"),
        ([lobby("resume", 2), lobby("close", 1, outcome="of a fenced process")], "open"),
        (
            [
                lobby("resume", 2),
                lobby("close", 1, outcome="of a fenced process"),
                lobby("close", 2, outcome="stopped early"),
            ],
            "stopped early",
        ),
    ],
)
def test_the_first_close_that_counts_is_the_outcome(
    copy: Path, more: list[bytes], outcome: str
) -> None:
    def edit(records: list[StoredRecord]) -> list[StoredRecord]:
        announced = records[0]
        return [
            announced,
            *(
                replace(announced, offset=announced.offset + number, value=value)
                for number, value in enumerate(more, start=1)
            ),
        ]

    assert verify(rewrite(copy, LOBBY, edit)).outcome == outcome


# The format -------------------------------------------------------------------------------------


def opcodes(data: bytes) -> Iterator[int]:
    position = len(MAGIC)
    while position < len(data) - len(MAGIC):
        opcode, length = struct.unpack_from("<BQ", data, position)
        yield opcode
        position += 9 + length


def test_other_tools_read_it(original: Path) -> None:
    with original.open("rb") as file:
        reader = make_reader(file, validate_crcs=True)
        summary = reader.get_summary()
        assert summary is not None
        assert UP in {channel.topic for channel in summary.channels.values()}
        found = [message.data for _, _, message in reader.iter_messages(log_time_order=False)]
        assert sorted(found) == sorted(message.data for message in messages_of(original))
        assert [each.name for each in reader.iter_attachments()] == ["manifest.json"]


def test_the_layout_is_the_documented_one(original: Path) -> None:
    data = original.read_bytes()
    kinds = list(opcodes(data))
    end = kinds.index(15)
    assert kinds[0] == 1
    assert set(kinds[1 : end - 1]) == {6}
    assert kinds[end - 1] == 9
    assert set(kinds[end + 1 : -1]) == {4, 8, 10, 11, 14}
    assert kinds[-1] == 2


def test_a_crc_of_zero_is_no_excuse(original: Path, copy: Path) -> None:
    """MCAP lets 0 stand for "not checked"; here it is a CRC like any other."""
    data = original.read_bytes()
    end = data.rindex(b"\x0f" + struct.pack("<Q", 4)) + 9
    assert struct.unpack_from("<I", data, end)[0] != 0
    assert "CRC 00000000" in refused(copy, data[:end] + bytes(4) + data[end + 4 :])
    footer = len(data) - len(MAGIC) - 4
    assert "CRC 00000000" in refused(copy, data[:footer] + bytes(4) + MAGIC)
    # That of a chunk, where all other checksums fit.
    chunk = data.index(b"\x06", len(MAGIC) + 9)
    zeroed = bytearray(data)
    zeroed[chunk + 9 + 24 : chunk + 9 + 28] = bytes(4)
    zeroed[end : end + 4] = struct.pack("<I", zlib.crc32(bytes(zeroed[: end - 9])))
    assert "expected the CRC of its bytes" in refused(copy, bytes(zeroed))
