"""What survives a power cut, a race at creation, and a failing disk.

A power cut is played on a copy of the directory: bytes of segments that were not synced are lost
page by page, and the WAL ends anywhere above its length at the last flush.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from slstream.errors import TransportBroken, TransportError
from slstream.transport.contract import Record, TopicConfig, Transport
from slstream.transport.embedded import recovery
from slstream.transport.embedded.index import Index
from slstream.transport.embedded.layout import Layout
from slstream.transport.embedded.segments import SegmentWriter
from tests.transport.logs import contents, open_log, read_all, run, values

_PAGE = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What two processes appended, and what a power cut must leave of it."""

    values: dict[int, list[bytes]]
    flushed: dict[int, int]
    """Records of each partition when the flush was due."""
    kept_bytes: dict[str, int]
    """How much of each file was forced to the disk; of the WAL, its length after the flush."""


def write(path: Path, seed: int, *, flush: bool = True) -> Written:
    """Two transports append to shared partitions; only the second one flushes."""
    chance = random.Random(seed)
    written: dict[int, list[bytes]] = {0: [], 1: [], 2: []}
    flushed = dict.fromkeys(written, 0)
    wal = path / "index.sqlite-wal"

    async def some(log: Transport, count: int) -> None:
        for _ in range(count):
            partition = chance.randrange(3)
            value = chance.randbytes(chance.choice([0, 10, 3000, 9000]))
            await log.append("t", [Record(value=value)], partition=partition)
            written[partition].append(value)

    async def body() -> None:
        async with await open_log(path) as one, await open_log(path) as two:
            await one.create_topic("t", TopicConfig(partitions=3))
            for _ in range(3):
                await some(one, 7)
                await some(two, 5)
            flushed.update({p: len(items) for p, items in written.items()})
            if flush:
                await two.flush()
                kept[wal.name] = wal.stat().st_size
            await some(one, 12)
            await some(two, 12)
            not_on_disk = shutil.ignore_patterns("*-shm", "wake")
            shutil.copytree(path, path.with_name("disk"), ignore=not_on_disk)

    with recorded_syncs(path) as kept:
        run(body())
    return Written(values=written, flushed=flushed, kept_bytes=kept)


@contextmanager
def recorded_syncs(path: Path) -> Iterator[dict[str, int]]:
    """How long each file of the log was when Python last synced it (SQLite syncs by itself)."""
    kept: dict[str, int] = {}

    def recording(sync: Callable[[int], None]) -> Callable[[int], None]:
        def record(fd: int) -> None:
            file = Path(f"/proc/self/fd/{fd}").readlink()
            if file.is_relative_to(path):
                kept[str(file.relative_to(path))] = file.stat().st_size
            sync(fd)

        return record

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", recording(os.fsync))
        patch.setattr(os, "fdatasync", recording(os.fdatasync))
        yield kept


def cut_power(disk: Path, written: Written, seed: int) -> None:
    """Lose what was not forced to the disk: all, nothing or some of it."""
    chance = random.Random(seed)
    for file in disk.glob("segments/*"):
        kept = written.kept_bytes.get(str(file.relative_to(disk)), 0)
        data = bytearray(file.read_bytes())
        for page in range(kept - kept % _PAGE, len(data), _PAGE):
            if chance.random() < 0.2:
                start = max(page, kept)
                data[start : page + _PAGE] = bytes(len(data[start : page + _PAGE]))
        length = chance.choice([len(data), kept, chance.randint(kept, len(data))])
        file.write_bytes(data[:length])
    wal = disk / "index.sqlite-wal"
    kept = written.kept_bytes.get(wal.name, 0)
    length = chance.choice([wal.stat().st_size, chance.randint(kept, wal.stat().st_size)])
    wal.write_bytes(wal.read_bytes()[:length])


def survivors(disk: Path) -> dict[int, list[bytes]]:
    found: dict[int, list[bytes]] = {}

    async def body() -> None:
        async with await open_log(disk) as log:
            for partition in range(3):
                found[partition] = values(await read_all(log, "t", partition))
                end = await log.append("t", [Record(value=b"on")], partition=partition)
                assert end == len(found[partition])

    run(body())
    return found


@pytest.mark.parametrize("seed", range(8))
def test_a_power_cut_leaves_a_prefix_with_all_that_was_flushed(tmp_path: Path, seed: int) -> None:
    written = write(tmp_path / "log", seed)
    disk = tmp_path / "disk"
    cut_power(disk, written, seed)
    for partition, found in survivors(disk).items():
        expected = written.values[partition]
        assert found == expected[: len(found)]
        assert len(found) >= written.flushed[partition]


def test_without_recovery_or_flush_the_same_power_cuts_do_harm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The negative controls: the cuts are real, and what prevents their harm is what we think."""
    harmed = lost = 0
    for seed in range(6):
        path = tmp_path / str(seed) / "log"
        written = write(path, seed)
        cut_power(path.with_name("disk"), written, seed)
        with monkeypatch.context() as patch:
            patch.setattr(recovery, "recover", lambda *_: None)
            try:
                survivors(path.with_name("disk"))
            except TransportBroken:
                harmed += 1
        path = tmp_path / str(seed) / "unflushed" / "log"
        unflushed = write(path, seed, flush=False)
        cut_power(path.with_name("disk"), unflushed, seed)
        try:
            found = survivors(path.with_name("disk"))
        except TransportError:
            lost += 1  # Even the creation of the topic is gone.
        else:
            lost += any(len(found[p]) < written.flushed[p] for p in found)
    assert harmed >= 3
    assert lost >= 3


def test_a_cut_is_logged_and_happens_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def body() -> None:
        async with await open_log(tmp_path) as log:
            await log.create_topic("t")
            await log.append("t", [Record(value=b"a"), Record(value=b"b"), Record(value=b"c")])

    run(body())
    (segment,) = tmp_path.glob("segments/*")
    segment.write_bytes(b"a?c")
    with caplog.at_level(logging.WARNING):
        assert contents(tmp_path) == [b"a"]
        assert contents(tmp_path) == [b"a"]
    (record,) = (r for r in caplog.records if r.name.startswith("slstream"))
    assert "removed 2 records of t[0] from offset 1 on" in record.getMessage()


def test_a_lost_segment_file_is_a_cut_too(tmp_path: Path) -> None:
    async def body() -> None:
        async with await open_log(tmp_path) as log:
            await log.create_topic("t")
            await log.append("t", [Record(value=b"a")])

    run(body())
    (segment,) = tmp_path.glob("segments/*")
    segment.unlink()
    assert contents(tmp_path) == []


def test_opening_beside_a_live_writer_cuts_nothing(tmp_path: Path) -> None:
    async def body() -> None:
        async with await open_log(tmp_path) as log:
            await log.create_topic("t")
            appends = asyncio.gather(
                *(log.append("t", [Record(value=b"%d" % i * 500)]) for i in range(600))
            )
            while not appends.done():
                async with await open_log(tmp_path) as other:
                    await other.append("t", [Record(value=b"other")])
            found = values(await read_all(log, "t"))
            assert [v for v in found if v != b"other"] == [b"%d" % i * 500 for i in range(600)]

    run(body())


def test_a_row_that_another_process_has_cut_already_is_left_alone(tmp_path: Path) -> None:
    """Two processes find the same damage; the slower one must not cut what the faster appended."""

    async def body() -> None:
        async with await open_log(tmp_path) as log:
            await log.create_topic("t")
            await log.append("t", [Record(value=b"a"), Record(value=b"b")])

    run(body())
    (segment,) = tmp_path.glob("segments/*")
    segment.write_bytes(b"a?")
    layout = Layout(tmp_path)
    slow = Index(layout.index)
    damaged, failed = recovery._check_unproven(layout, slow)
    assert len(damaged) == 1

    async def faster() -> None:
        async with await open_log(tmp_path) as log:
            assert await log.append("t", [Record(value=b"new")]) == 1
            recovery._repair(layout, slow, damaged, failed)
            assert values(await read_all(log, "t")) == [b"a", b"new"]

    run(faster())
    slow.close()


def test_what_a_failed_sync_left_is_written_again(tmp_path: Path) -> None:
    async def body() -> None:
        async with await open_log(tmp_path) as log:
            await log.create_topic("t")
            await log.append("t", [Record(value=b"a"), Record(value=b"b")])

    run(body())
    db = sqlite3.connect(tmp_path / "index.sqlite")
    db.execute("UPDATE segments SET failed = 1")
    db.commit()
    assert contents(tmp_path) == [b"a", b"b"]
    assert db.execute("SELECT length, durable, failed FROM segments").fetchall() == [(2, 2, 0)]
    db.close()


def test_files_that_the_index_does_not_know_are_removed(tmp_path: Path) -> None:
    contents_of_new = tmp_path / "log"

    async def body() -> None:
        async with await open_log(contents_of_new) as log:
            in_use = SegmentWriter(contents_of_new / "segments", 777)
            garbage = contents_of_new / "segments" / "000000000999.segment"
            garbage.write_bytes(b"from before")
            async with await open_log(contents_of_new):
                assert not garbage.exists()
                assert in_use.path.exists()
            in_use.close()
            await log.create_topic("t")

    run(body())


_OPEN = """
import asyncio, sys, time
from pathlib import Path
from slstream.transport.contract import Record
from slstream.transport.embedded.transport import EmbeddedTransport
async def main():
    time.sleep(max(0, float(sys.argv[2]) - time.time()))
    async with await EmbeddedTransport.open(Path(sys.argv[1])) as log:
        await log.create_topic("t")
        await log.append("t", [Record(value=b"x")])
asyncio.run(main())
"""


def test_processes_race_to_create_a_log(tmp_path: Path) -> None:
    start = str(time.time() + 0.6)
    racers = [
        subprocess.Popen([sys.executable, "-c", _OPEN, str(tmp_path / "a" / "log"), start])
        for _ in range(5)
    ]
    assert [racer.wait(30) for racer in racers] == [0] * 5
    assert contents(tmp_path / "a" / "log") == [b"x"] * 5


def test_a_newer_format_is_refused_by_name(tmp_path: Path) -> None:
    assert contents_after_creation(tmp_path) == []
    db = sqlite3.connect(tmp_path / "index.sqlite")
    db.execute("PRAGMA user_version = 7")
    db.close()

    async def body() -> None:
        for read_only in (False, True):
            with pytest.raises(TransportError, match="expected log format 1, found 7"):
                await open_log(tmp_path, read_only=read_only)

    run(body())


def contents_after_creation(path: Path) -> list[bytes]:
    async def body() -> None:
        async with await open_log(path) as log:
            await log.create_topic("t")

    run(body())
    return contents(path)


@pytest.mark.parametrize("other", [b"SQLite format 2", b"x" * 8192])
def test_a_file_that_is_no_index(tmp_path: Path, other: bytes) -> None:
    (tmp_path / "index.sqlite").write_bytes(other)

    async def body() -> None:
        with pytest.raises(TransportBroken, match="not a database"):
            await open_log(tmp_path)

    run(body())


def test_a_foreign_database_is_left_alone(tmp_path: Path) -> None:
    db = sqlite3.connect(tmp_path / "index.sqlite")
    db.execute("CREATE TABLE mine (x)")
    db.close()

    async def body() -> None:
        with pytest.raises(TransportError, match="found 0"):
            await open_log(tmp_path)

    run(body())
    db = sqlite3.connect(tmp_path / "index.sqlite")
    assert db.execute("SELECT name FROM sqlite_schema").fetchall() == [("mine",)]
    db.close()
