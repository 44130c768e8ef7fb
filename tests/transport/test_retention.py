from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from slstream.errors import OffsetOutOfRange
from slstream.transport.contract import Record, TopicConfig
from slstream.transport.embedded import segments, writer
from tests.transport.logs import append, open_log, read_all, run, values


def segment_files(path: Path) -> list[str]:
    return sorted(file.name for file in path.glob("segments/*"))


@pytest.fixture
def small_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segments, "SEGMENT_BYTES", 1000)


def test_size_keeps_at_least_the_limit(tmp_path: Path) -> None:
    async def body() -> None:
        async with await open_log(tmp_path) as log, await open_log(tmp_path) as other:
            await log.create_topic("t", TopicConfig(retention_bytes=250))
            await log.create_topic("kept")
            await append(log, "t", [b"%d" % i * 100 for i in range(8)])
            await append(log, "kept", [b"x" * 1000])
            await log.enforce_retention()
            assert (await log.start_offset("t"), await log.end_offset("t")) == (5, 8)
            assert values(await read_all(other, "t")) == [b"%d" % i * 100 for i in (5, 6, 7)]
            assert await log.end_offset("kept") == 1
            for reader in (log, other):
                with pytest.raises(OffsetOutOfRange, match="expected an offset in 5 to 8, found 4"):
                    await reader.read("t", 4)
            assert await log.append("t", [Record(value=b"next")]) == 8

    run(body())


def test_age_may_remove_all(tmp_path: Path) -> None:
    async def body() -> None:
        async with await open_log(tmp_path) as log:
            await log.create_topic("t", TopicConfig(retention_ms=200))
            await append(log, "t", [b"a", b"b"])
            await log.enforce_retention()
            assert await log.start_offset("t") == 0
            await asyncio.sleep(0.25)
            await append(log, "t", [b"c"])
            await log.enforce_retention()
            assert (await log.start_offset("t"), await log.end_offset("t")) == (2, 3)
            await asyncio.sleep(0.25)
            await log.enforce_retention()
            assert (await log.start_offset("t"), await log.end_offset("t")) == (3, 3)
            assert await log.read("t", 3) == []
            assert await log.append("t", [Record(value=b"d")]) == 3

    run(body())


def test_it_happens_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "_RETENTION_PERIOD_S", 0.02)

    async def body() -> None:
        async with await open_log(tmp_path) as log:
            await log.create_topic("t", TopicConfig(retention_bytes=10))
            deadline = time.monotonic() + 10
            while await log.start_offset("t") == 0 and time.monotonic() < deadline:
                await append(log, "t", [b"x" * 10])
            assert await log.start_offset("t") > 0

    run(body())


@pytest.mark.usefixtures("small_segments")
def test_segments_go_with_their_last_record(tmp_path: Path) -> None:
    async def body() -> None:
        async with await open_log(tmp_path) as log, await open_log(tmp_path) as other:
            await log.create_topic("t", TopicConfig(retention_bytes=500))
            await append(log, "t", [b"%d" % i * 500 for i in range(9)])
            first = await other.read("t", 0, max_records=1)
            assert len(segment_files(tmp_path)) == 5
            await log.enforce_retention()
            # The last segment has the last record; who had the first one open may read on.
            assert segment_files(tmp_path) == ["000000000005.segment"]
            assert values(first) == [b"0" * 500]
            assert values(await read_all(other, "t")) == [b"8" * 500]

    run(body())


@pytest.mark.usefixtures("small_segments")
def test_a_reader_that_looked_before_the_removal_is_told_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def body() -> None:
        async with await open_log(tmp_path) as log, await open_log(tmp_path) as other:
            await log.create_topic("t", TopicConfig(retention_bytes=1))
            await append(log, "t", [b"%d" % i * 1000 for i in range(3)])
            rows = other._reader.index.rows("t", 0, 0, 1, 1)
            await log.enforce_retention()
            monkeypatch.setattr(other._near, "read_now", lambda *_: None)
            looks = [rows]
            again = other._reader.index.rows
            monkeypatch.setattr(
                other._reader.index, "rows", lambda *a: looks.pop() if looks else again(*a)
            )
            with pytest.raises(OffsetOutOfRange, match="in 2 to 3"):
                await other.read("t", 0, max_records=1)

    run(body())


def test_a_deleted_topic_gives_its_room_back(tmp_path: Path) -> None:
    async def body() -> None:
        async with await open_log(tmp_path) as log:
            await log.create_topic("t")
            await append(log, "t", [b"x" * 1000])
            log_of_dead = await open_log(tmp_path)
            await append(log_of_dead, "t", [b"y" * 1000])
            await log_of_dead.aclose()
            assert len(segment_files(tmp_path)) == 2
            await log.delete_topic("t")
            # Its own segment is still appended to.
            assert segment_files(tmp_path) == ["000000000001.segment"]

    run(body())
