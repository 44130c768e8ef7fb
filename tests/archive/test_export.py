from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from slstream.archive import export
from slstream.archive.export import export_session
from slstream.archive.transport import ArchiveTransport
from slstream.archive.verification import ArchiveReport, verify
from slstream.errors import ArchiveError, StorageError
from slstream.frames.header import FrameKind
from slstream.frames.link import FrameReader
from slstream.transport.contract import Record, StoredRecord, TopicConfig, Transport
from tests.archive.sessions import (
    DIVERGENCES,
    DOWN,
    INCARNATIONS,
    LOBBY,
    OTHER,
    SCHEMAS,
    SESSION,
    SILENT,
    UP,
    all_of,
    announce,
    append,
    frames,
    make_archive,
    with_log,
    write_session,
)


def archived(path: Path) -> dict[str, list[StoredRecord]]:
    async def read() -> dict[str, list[StoredRecord]]:
        async with await ArchiveTransport.open(path) as log:
            return {topic: await all_of(log, topic) for topic in await log.topics()}

    return asyncio.run(read())


def logged(folder: Path, topic: str) -> list[StoredRecord]:
    return with_log(folder / "log", lambda log: all_of(log, topic))


def test_links_and_schemas_come_back_as_they_were(tmp_path: Path) -> None:
    # Frames in several records, and links in several chunks of the archive.
    found = archived(make_archive(tmp_path, count=12, size=200_000))
    for topic in (UP, DOWN, SILENT, SCHEMAS):
        assert found[topic] == logged(tmp_path, topic), topic
    assert len(found[UP]) > 3 * 12
    reader = FrameReader()
    delivered = [frame for record in found[UP] if (frame := reader.push(record.value))]
    assert len(delivered) == 1 + 12 + 3


def test_only_one_session_is_in_it(tmp_path: Path) -> None:
    path = make_archive(tmp_path)
    found = archived(path)
    lobby = logged(tmp_path, LOBBY)
    assert sorted(found) == sorted(
        [UP, DOWN, SILENT, SCHEMAS, LOBBY, INCARNATIONS, DIVERGENCES, "credit.incarnations.alice"]
    )
    assert found[LOBBY] == [lobby[2], lobby[4]]
    assert found[INCARNATIONS] == [logged(tmp_path, INCARNATIONS)[n] for n in (1, 3)]
    assert found[DIVERGENCES] == logged(tmp_path, DIVERGENCES)[1:]
    data = path.read_bytes()
    assert OTHER.encode() not in data
    assert b"dave" not in data


def test_the_report_tells_what_is_there(tmp_path: Path) -> None:
    report = verify(make_archive(tmp_path))
    assert (report.federation, report.session) == ("credit", SESSION)
    assert (report.outcome, report.links, report.schemas) == ("finished", 3, 3)
    assert report.frames == 2 * (1 + 12) + 3
    assert report.file_bytes == (tmp_path / "session.mcap").stat().st_size
    (up,) = (each for each in report.partitions if each.topic == UP)
    assert (up.records, up.frames) == (16, 16)
    assert up.bytes == sum(len(record.value) for record in logged(tmp_path, UP))
    assert json.loads(report.to_json())["partitions"][0]["role"] == "link"


def test_the_digest_is_over_the_records_as_documented(tmp_path: Path) -> None:
    report = verify(make_archive(tmp_path))
    (lobby,) = (each for each in report.partitions if each.topic == LOBBY)
    expected = hashlib.sha256()
    for record in archived(tmp_path / "session.mcap")[LOBBY]:
        key, (name, value) = record.key or b"", record.headers[0]
        data = b"\x01" + record.offset.to_bytes(8, "big") + len(key).to_bytes(4, "big")
        data += b"\x00\x01" + key + len(name).to_bytes(2, "big") + name.encode()
        data += len(value).to_bytes(4, "big") + value + record.value
        expected.update(record.timestamp_ms.to_bytes(8, "big") + len(data).to_bytes(8, "big"))
        expected.update(data)
    assert lobby.sha256 == expected.hexdigest()


def exports(folder: Path, **options: object) -> ArchiveReport:
    """Export once more, from the log that is there."""

    async def body(log: Transport) -> ArchiveReport:
        return await export_session(log, SESSION, folder / "again.mcap", **options)  # type: ignore[arg-type]

    return with_log(folder / "log", body)


def test_the_same_log_gives_the_same_file(tmp_path: Path) -> None:
    path = make_archive(tmp_path)
    exports(tmp_path)
    assert (tmp_path / "again.mcap").read_bytes() == path.read_bytes()
    # Later sessions change nothing.
    other = frames("bob", FrameKind.ACTIVATION, 2, count=1)
    with_log(tmp_path / "log", lambda log: append(log, "credit.bob-to-alice.s3", *other))
    with_log(tmp_path / "log", lambda log: append(log, LOBBY, [announce("s3")]))
    exports(tmp_path, force=True)
    assert (tmp_path / "again.mcap").read_bytes() == path.read_bytes()


def test_a_file_is_replaced_only_when_asked(tmp_path: Path) -> None:
    make_archive(tmp_path)
    target = tmp_path / "again.mcap"
    target.write_text("mine")
    with pytest.raises(ArchiveError, match=r"found one that exists.*--force"):
        exports(tmp_path)
    assert target.read_text() == "mine"
    exports(tmp_path, force=True)
    verify(target)
    target.unlink()
    target.mkdir()
    with pytest.raises(ArchiveError, match="found one that exists"):
        exports(tmp_path, force=True)


def test_a_file_of_somebody_else_beside_it_is_left_alone(tmp_path: Path) -> None:
    other = tmp_path / ".session.mcap.tmp"
    other.write_bytes(b"mine")
    before = {*tmp_path.iterdir()}
    path = make_archive(tmp_path)
    assert {*tmp_path.iterdir()} - before == {path, tmp_path / "log"}
    assert other.read_bytes() == b"mine"


def test_what_is_written_meanwhile_is_not_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_archive(tmp_path)
    target = tmp_path / "again.mcap"

    def verify_while_another_exports(path: Path) -> ArchiveReport:
        target.write_bytes(b"another's")
        return verify(path)

    monkeypatch.setattr(export, "verify", verify_while_another_exports)
    with pytest.raises(ArchiveError, match="expected a new file, found one that exists"):
        exports(tmp_path)
    assert target.read_bytes() == b"another's"
    assert not list(tmp_path.glob(".*"))


def test_a_folder_that_is_missing_is_an_error(tmp_path: Path) -> None:
    make_archive(tmp_path)

    async def body(log: Transport) -> ArchiveReport:
        return await export_session(log, SESSION, tmp_path / "none" / "x.mcap")

    with pytest.raises(StorageError, match=r"cannot write .*x\.mcap"):
        with_log(tmp_path / "log", body)


def refused(folder: Path, change: Callable[[Transport], object], message: str) -> None:
    """Export from a log that was changed; nothing may be left behind."""

    async def body(log: Transport) -> None:
        await write_session(log)
        done = change(log)
        if asyncio.iscoroutine(done):
            await done
        await export_session(log, SESSION, folder / "out.mcap")

    with pytest.raises(ArchiveError, match=message):
        with_log(folder / "log", body)
    assert sorted(path.name for path in folder.iterdir()) == ["log"]


def test_a_link_with_a_gap_is_not_archived(tmp_path: Path) -> None:
    lost = frames("bob", FrameKind.ACTIVATION, 2, count=1, incarnation=4, first=17)
    refused(tmp_path, lambda log: append(log, UP, *lost), "offset 16: expected frame 16, chunk 0")


def test_bytes_that_are_no_frame_are_not_archived(tmp_path: Path) -> None:
    junk = [Record(value=b"junk" * 20)]
    refused(tmp_path, lambda log: append(log, UP, junk), r"offset 16: first byte: expected 0x00")


def test_a_schema_that_is_not_registered_is_missed(tmp_path: Path) -> None:
    strange = frames("zoe", FrameKind.ACTIVATION, 9, count=1)
    refused(tmp_path, lambda log: append(log, SILENT, *strange), "schema id 9: expected one of")


def test_a_schema_of_another_kind_is_refused(tmp_path: Path) -> None:
    strange = frames("zoe", FrameKind.ACTIVATION, 3, count=1)
    refused(tmp_path, lambda log: append(log, SILENT, *strange), "schema 3: expected one of activ")


def test_a_log_without_schemas_is_not_archived(tmp_path: Path) -> None:
    refused(tmp_path, lambda log: log.delete_topic(SCHEMAS), "expected the schemas topic")


def test_a_session_that_is_not_there(tmp_path: Path) -> None:
    make_archive(tmp_path)

    async def body(log: Transport) -> None:
        await export_session(log, "20260131-7f3a", tmp_path / "x.mcap")

    with pytest.raises(ArchiveError, match="session 20260131-7f3a: expected it in the log's lobby"):
        with_log(tmp_path / "log", body)


def test_a_session_that_is_not_over_is_archived_as_far_as_it_is(tmp_path: Path) -> None:
    async def body(log: Transport) -> ArchiveReport:
        await append(log, LOBBY, [announce(SESSION)])
        await log.create_topic(SCHEMAS)
        return await export_session(log, SESSION, tmp_path / "x.mcap")

    report = with_log(tmp_path / "log", body)
    assert (report.outcome, report.links, report.frames) == ("open", 0, 0)


def test_two_federations_with_a_session_of_one_name(tmp_path: Path) -> None:
    make_archive(tmp_path)
    with_log(
        tmp_path / "log", lambda log: append(log, "x.lobby", [announce(SESSION, federation="x")])
    )
    with pytest.raises(ArchiveError, match="found credit, x; choose one with --federation"):
        exports(tmp_path)
    assert exports(tmp_path, federation="credit").federation == "credit"


def test_what_retention_has_cut_is_not_archived(tmp_path: Path) -> None:
    class Cut:
        """A log whose link begins later."""

        def __init__(self, log: Transport) -> None:
            self._log = log

        def __getattr__(self, name: str) -> object:
            return getattr(self._log, name)

        async def start_offset(self, topic: str, *, partition: int = 0) -> int:
            return 3 if topic == UP else 0

    async def body(log: Transport) -> None:
        await write_session(log)
        await export_session(Cut(log), SESSION, tmp_path / "x.mcap")  # type: ignore[arg-type]

    with pytest.raises(ArchiveError, match="expected its records from offset 0, found them from 3"):
        with_log(tmp_path / "log", body)


def test_every_partition_of_a_link_is_archived(tmp_path: Path) -> None:
    async def body(log: Transport) -> None:
        await write_session(log)
        await log.delete_topic(SILENT)
        config = TopicConfig(partitions=3, max_record_bytes=2_000_000, retention_bytes=2**40)
        await log.create_topic(SILENT, config)
        for partition in (0, 2):
            for group in frames("zoe", FrameKind.ACTIVATION, 2, count=partition):
                await log.append(SILENT, group, partition=partition)
        await export_session(log, SESSION, tmp_path / "x.mcap")
        async with await ArchiveTransport.open(tmp_path / "x.mcap") as archive:
            assert await archive.topic_config(SILENT) == config
            for partition in range(3):
                expected = await log.read(SILENT, 0, partition=partition)
                assert await archive.read(SILENT, 0, partition=partition) == expected

    with_log(tmp_path / "log", body)
    assert [each.frames for each in verify(tmp_path / "x.mcap").partitions[2:5]] == [1, 0, 3]
