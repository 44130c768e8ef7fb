from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

import slstream.archive.transport as archive_transport
from slstream.archive.transport import ArchiveTransport
from slstream.errors import (
    ArchiveError,
    OffsetOutOfRange,
    TransportBroken,
    TransportClosed,
    TransportError,
    UnknownTopic,
)
from slstream.frames.header import FrameKind
from slstream.party.lobby import Lobby
from slstream.schemas.registry import RegistryFold
from slstream.transport.contract import Record, StoredRecord, TopicConfig, Transport
from tests.archive.sessions import (
    DIVERGENCES,
    DOWN,
    INCARNATIONS,
    LOBBY,
    SCHEMA_LOG,
    SCHEMAS,
    SESSION,
    SILENT,
    UP,
    all_of,
    make_archive,
    with_log,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With ``session.mcap`` and ``log``; frames of several records, links of several chunks."""
    folder = tmp_path_factory.mktemp("archive")
    make_archive(folder, count=20, size=150_000)
    return folder


def reading(path: Path, body: Callable[[ArchiveTransport], Awaitable[None]]) -> None:
    async def run() -> None:
        async with await ArchiveTransport.open(path) as log:
            await body(log)

    asyncio.run(run(), debug=True)


@pytest.mark.parametrize(
    "limits", [{}, {"max_records": 1}, {"max_records": 7}, {"max_bytes": 1}, {"max_bytes": 200_000}]
)
def test_it_reads_as_the_log_does(folder: Path, limits: dict[str, int]) -> None:
    async def original(log: Transport) -> dict[str, list[StoredRecord]]:
        return {topic: await all_of(log, topic) for topic in (UP, DOWN, SILENT, SCHEMAS)}

    expected = with_log(folder / "log", original)

    async def body(log: ArchiveTransport) -> None:
        assert len(log._archive.chunks_from((UP, 0), 0)) > 2
        for topic, records in expected.items():
            assert await all_of(log, topic, **limits) == records
            assert await log.start_offset(topic) == 0
            assert await log.end_offset(topic) == len(records)

    reading(folder / "session.mcap", body)


def test_every_offset_can_be_read_from(folder: Path) -> None:
    async def body(log: ArchiveTransport) -> None:
        end = await log.end_offset(UP)
        for offset in range(end):
            records = await log.read(UP, offset, max_records=3)
            assert [each.offset for each in records] == [*range(offset, min(end, offset + 3))]
        assert await log.read(UP, end) == []
        assert sum(len(r.value) for r in await log.read(UP, 0, max_bytes=400_000)) <= 400_000

    reading(folder / "session.mcap", body)


def test_reading_skips_the_records_of_other_sessions(folder: Path) -> None:
    async def body(log: ArchiveTransport) -> None:
        for topic, kept in ((LOBBY, [2, 4]), (INCARNATIONS, [1, 3]), (DIVERGENCES, [1])):
            assert await log.start_offset(topic) == 0
            assert await log.end_offset(topic) == kept[-1] + 1
            for offset in range(kept[-1] + 2):
                behind = [each for each in kept if each >= offset]
                if offset <= kept[-1] + 1:
                    found = await log.read(topic, offset)
                    assert [each.offset for each in found] == behind
            assert await log.wait(topic, 0, timeout_s=0)

    reading(folder / "session.mcap", body)


def test_the_folds_of_parties_work_on_it(folder: Path) -> None:
    async def body(log: ArchiveTransport) -> None:
        lobby = Lobby(log, "credit", "alice")
        await lobby.refresh()
        closed = lobby.closed(SESSION)
        assert closed is not None
        assert closed.outcome == "finished"
        registry = RegistryFold()
        for record in await all_of(log, SCHEMAS):
            registry.apply(record.offset, record.value)
        assert [registry.get(n) for n in (1, 2, 3)] == SCHEMA_LOG

    reading(folder / "session.mcap", body)


def test_topics_and_their_settings(folder: Path) -> None:
    async def body(log: ArchiveTransport) -> None:
        assert log.manifest.session == SESSION
        topics = list(await log.topics())
        assert topics == sorted(topics)
        assert LOBBY in topics
        assert await log.topics("credit.bob-to-") == [UP]
        assert await log.topic_config(UP) == TopicConfig()

    reading(folder / "session.mcap", body)


def test_what_is_not_there_is_refused(folder: Path) -> None:
    async def body(log: ArchiveTransport) -> None:
        end = await log.end_offset(UP)
        for offset in (-1, end + 1):
            with pytest.raises(OffsetOutOfRange, match=f"from 0 to {end}, found {offset}"):
                await log.read(UP, offset)
        with pytest.raises(ValueError, match="max_records"):
            await log.read(UP, 0, max_records=0)
        for call in (log.read(UP, 0, partition=1), log.end_offset("x"), log.topic_config("x")):
            with pytest.raises(UnknownTopic, match="found no such"):
                await call

    reading(folder / "session.mcap", body)


def test_nothing_can_be_changed(folder: Path) -> None:
    before = (folder / "session.mcap").read_bytes()

    async def body(log: ArchiveTransport) -> None:
        for call in (
            log.append(UP, [Record(value=b"x")]),
            log.create_topic("x"),
            log.create_topic(UP),
            log.delete_topic(UP),
            log.flush(),
        ):
            with pytest.raises(TransportError, match=r"is the archive .*, which never changes"):
                await call

    reading(folder / "session.mcap", body)
    assert (folder / "session.mcap").read_bytes() == before


def test_waiting(folder: Path) -> None:
    async def body(log: ArchiveTransport) -> None:
        end = await log.end_offset(UP)
        loop = asyncio.get_running_loop()
        start = loop.time()
        assert await log.wait(UP, end - 1)
        assert not await log.wait(UP, end, timeout_s=0.05)
        assert loop.time() - start >= 0.05  # a caller that asks again must not spin
        with pytest.raises(TransportError, match="nothing will be added"):
            await log.wait(UP, end)

    reading(folder / "session.mcap", body)


def test_closing_ends_what_waits(folder: Path) -> None:
    async def body(log: ArchiveTransport) -> None:
        waiting = asyncio.create_task(log.wait(UP, await log.end_offset(UP), timeout_s=20))
        await asyncio.sleep(0)
        await log.aclose()
        await log.aclose()
        for call in (waiting, log.read(UP, 0), log.topics(), log.flush(), log.wait(UP, 0)):
            with pytest.raises(TransportClosed, match="was closed by this process"):
                await call

    reading(folder / "session.mcap", body)


def test_links_are_read_in_turns_without_reading_chunks_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads = 0
    load = ArchiveTransport._load

    def counted(self: ArchiveTransport, *place: object) -> list[StoredRecord]:
        nonlocal loads
        loads += 1
        return load(self, *place)  # type: ignore[arg-type]

    monkeypatch.setattr(ArchiveTransport, "_load", counted)

    async def in_turns(log: ArchiveTransport) -> None:
        for offset in range(await log.end_offset(DOWN)):
            await log.read(UP, offset, max_records=1)
            await log.read(DOWN, offset, max_records=1)

    reading(folder / "session.mcap", in_turns)
    chunks, loads = loads, 0
    monkeypatch.setattr(archive_transport, "CACHE_BYTES", 1)  # one chunk at a time
    reading(folder / "session.mcap", in_turns)
    assert loads > 5 * chunks


def test_tasks_may_read_at_once(folder: Path) -> None:
    async def body(log: ArchiveTransport) -> None:
        found = await asyncio.gather(*(all_of(log, UP) for _ in range(8)))
        assert all(each == found[0] for each in found)

    reading(folder / "session.mcap", body)


def test_a_damaged_chunk_is_found_when_it_is_read(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "damaged.mcap"
    data = bytearray((folder / "session.mcap").read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)

    async def body(log: ArchiveTransport) -> None:
        with pytest.raises(TransportBroken, match="expected the CRC of its bytes"):
            await asyncio.gather(all_of(log, UP), all_of(log, DOWN))
        assert len(await all_of(log, LOBBY)) == 2

    reading(path, body)


def test_what_is_no_archive_is_not_opened(tmp_path: Path) -> None:
    path = tmp_path / "x"
    for content, found in ((b"x" * 1000, "78 78 78 78 78 78 78 78"), (b"", "an empty one")):
        path.write_bytes(content)
        with pytest.raises(ArchiveError, match=f"expected a file that .* wrote.* found {found}$"):
            asyncio.run(ArchiveTransport.open(path))


def test_the_fixture_has_frames_of_several_records(folder: Path) -> None:
    records = with_log(folder / "log", lambda log: all_of(log, UP))
    kinds = {each.headers[0][1] for each in records}
    assert kinds == {b"control", FrameKind.ACTIVATION.label.encode()}
    assert len(records) > 3 * 20
