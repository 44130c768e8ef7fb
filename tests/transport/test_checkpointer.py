from __future__ import annotations

import asyncio
import sqlite3
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from slstream.transport.contract import Record
from slstream.transport.embedded import checkpointer, writer
from slstream.transport.embedded.checkpointer import Checkpointer
from slstream.transport.embedded.index import Index
from slstream.transport.embedded.layout import Layout
from slstream.transport.embedded.lock import FileLock
from tests.transport.logs import append, open_log, read_all, run


def wal_bytes(path: Path) -> int:
    return (path / "index.sqlite-wal").stat().st_size


def test_one_is_asked_for_now_and_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "_COMMITS_PER_CHECKPOINT", 20)
    calls: list[Checkpointer] = []

    def checkpoint(self: Checkpointer) -> None:
        calls.append(self)

    monkeypatch.setattr(Checkpointer, "checkpoint", checkpoint)

    async def body() -> None:
        async with await open_log(tmp_path) as log:
            await log.create_topic("t")
            await append(log, "t", [b"x"] * 59)
        # Closing waits for what was asked for.
        assert len(calls) == 2

    run(body())


def test_appends_go_on_beside_checkpoints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "_COMMITS_PER_CHECKPOINT", 5)
    monkeypatch.setattr(checkpointer, "_MAX_WAL_PAGES", 50)

    async def body() -> None:
        async with await open_log(tmp_path) as log, await open_log(tmp_path) as other:
            await log.create_topic("t")
            await asyncio.gather(
                append(log, "t", [b"x"] * 150),
                append(other, "t", [b"x"] * 150),
            )
            assert len(await read_all(log, "t")) == 300
            (verdict,) = log._near.index._db.execute("PRAGMA integrity_check").fetchone()
            assert verdict == "ok"

    run(body())


def test_a_wal_above_the_limit_is_cut_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def body() -> None:
        async with await open_log(tmp_path) as log:
            await log.create_topic("t")
            await append(log, "t", [b"x"] * 50)
            mover = Checkpointer(Layout(tmp_path))
            await asyncio.to_thread(mover.checkpoint)
            assert wal_bytes(tmp_path) > 100_000
            monkeypatch.setattr(checkpointer, "_MAX_WAL_PAGES", 0)
            await asyncio.to_thread(mover.checkpoint)
            assert wal_bytes(tmp_path) == 0
            mover.close()
            assert await log.append("t", [Record(value=b"on")]) == 50

    run(body())


def test_one_at_a_time_and_never_of_an_empty_wal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The two conditions under which SQLite's reset race cannot happen."""
    calls: list[str] = []
    checkpoint, transaction = Index.checkpoint, Index.transaction

    def watched_checkpoint(index: Index, mode: str) -> int:
        calls.append(mode)
        return checkpoint(index, mode)

    def watched_transaction(index: Index) -> AbstractContextManager[sqlite3.Connection]:
        calls.append("commit")
        return transaction(index)

    monkeypatch.setattr(Index, "checkpoint", watched_checkpoint)
    monkeypatch.setattr(Index, "transaction", watched_transaction)

    async def body() -> None:
        async with await open_log(tmp_path):
            calls.clear()
            mover = Checkpointer(Layout(tmp_path))
            other = FileLock(Layout(tmp_path).checkpoint_lock)
            with other:
                mover.checkpoint()
            assert calls == []
            mover.checkpoint()
            assert calls == ["commit", "PASSIVE"]
            mover.close()
            other.close()

    run(body())


def test_no_connection_checkpoints_by_itself(tmp_path: Path) -> None:
    async def body() -> None:
        async with await open_log(tmp_path) as log:
            for index in (log._near.index, log._reader.index, log._writer._index):
                assert index._db.execute("PRAGMA wal_autocheckpoint").fetchone() == (0,)

    run(body())
