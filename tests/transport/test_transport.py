"""What the embedded transport adds to the contract."""

from __future__ import annotations

import asyncio
import os
import time
import warnings
from pathlib import Path

import pytest

from slstream.errors import TransportBroken, TransportClosed, TransportError
from slstream.transport.contract import Durability, Record, TopicConfig
from slstream.transport.embedded.admission import MAX_BYTES_IN_FLIGHT
from slstream.transport.embedded.layout import Layout
from slstream.transport.embedded.lock import FileLock
from tests.transport.logs import append, contents, open_log, read_all, run, values


def test_a_monitor_reads_beside_a_writer_and_changes_nothing(tmp_path: Path) -> None:
    async def body() -> None:
        async with await open_log(tmp_path) as log:
            await log.create_topic("t")
            async with await open_log(tmp_path, read_only=True) as monitor:
                wait = asyncio.create_task(monitor.wait("t", 0))
                await append(log, "t", [b"a"])
                assert await wait
                assert values(await read_all(monitor, "t")) == [b"a"]
                for call in (
                    monitor.create_topic("u"),
                    monitor.delete_topic("t"),
                    monitor.append("t", [Record(value=b"b")]),
                    monitor.flush(),
                    monitor.enforce_retention(),
                ):
                    with pytest.raises(TransportError, match="opened for reading only"):
                        await call
        # Nobody else has it open: still readable.
        async with await open_log(tmp_path, read_only=True) as monitor:
            assert values(await read_all(monitor, "t")) == [b"a"]

    run(body())


def test_appends_beyond_the_limit_wait_in_the_caller(tmp_path: Path) -> None:
    async def body() -> None:
        size = MAX_BYTES_IN_FLIGHT // 4
        stop = FileLock(Layout(tmp_path).write_lock)
        async with await open_log(tmp_path) as log:
            await log.create_topic("t", TopicConfig(max_record_bytes=size))
            with stop:  # Nothing can be committed.
                payload = bytes(size - 1000)
                appends = [
                    asyncio.create_task(log.append("t", [Record(value=payload)])) for _ in range(10)
                ]
                await asyncio.sleep(0.1)
                assert log._admission._bytes <= MAX_BYTES_IN_FLIGHT
                assert len(log._admission._in_flight) == 4
                assert not any(task.done() for task in appends)
            assert await asyncio.gather(*appends) == list(range(10))
        stop.close()

    run(body())


def test_closing_does_not_wait_for_ever(tmp_path: Path) -> None:
    async def body() -> None:
        log = await open_log(tmp_path)
        await log.create_topic("t")
        await log.append("t", [Record(value=b"to be forced")])
        stop = FileLock(Layout(tmp_path).write_lock)
        with stop:
            stuck = asyncio.create_task(log.append("t", [Record(value=b"")]))
            flush = asyncio.create_task(log.flush())
            await asyncio.sleep(0.05)
            began = time.monotonic()
            await log.aclose()
            assert time.monotonic() - began < 5
            for call in (stuck, flush):
                with pytest.raises(TransportBroken, match="did not finish within 4 s"):
                    await call
        stop.close()

    run(body())


def test_the_end_of_the_event_loop_in_the_midst_of_closing_leaves_no_socket(
    tmp_path: Path,
) -> None:
    async def body() -> None:
        log = await open_log(tmp_path)
        await log.create_topic("t")
        assert not await log.wait("t", 0, timeout_s=0.01)
        assert len(list((tmp_path / "wake").iterdir())) == 1
        with FileLock(Layout(tmp_path).write_lock):
            stuck = [
                asyncio.create_task(log.append("t", [Record(value=b"")])),
                asyncio.create_task(log.aclose()),
            ]
            await asyncio.sleep(0.05)
            assert not any(task.done() for task in stuck)
            # As asyncio.run() does with what is left.
            left = asyncio.all_tasks() - {asyncio.current_task()}
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)
            assert list((tmp_path / "wake").iterdir()) == []

    run(body())


def test_a_forked_child_is_told_to_open_its_own(tmp_path: Path) -> None:
    async def body() -> None:
        async with await open_log(tmp_path) as log:
            await log.create_topic("t")
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)
                child = os.fork()
            if child == 0:
                # The loop belongs to the parent, so the coroutine is driven by hand.
                try:
                    log.append("t", [Record(value=b"from the child")]).send(None)
                except TransportClosed as error:
                    os._exit(0 if "a forked process must open it anew" in str(error) else 2)
                finally:
                    os._exit(1)
            _, status = await asyncio.to_thread(os.waitpid, child, 0)
            assert os.waitstatus_to_exitcode(status) == 0
            assert await log.append("t", [Record(value=b"from the parent")]) == 0

    run(body())


def test_step_durability_covers_what_others_put_in_front(tmp_path: Path) -> None:
    """A record that must survive needs its predecessors, whoever wrote them."""

    async def body() -> None:
        async with (
            await open_log(tmp_path) as lazy,
            await open_log(tmp_path, durability=Durability.STEP) as strict,
        ):
            await lazy.create_topic("t")
            await append(lazy, "t", [b"a" * 10])
            proven = "SELECT id FROM segments WHERE durable = length ORDER BY id"
            assert lazy._near.index._db.execute(proven).fetchall() == []
            await append(strict, "t", [b"b" * 10])
            assert lazy._near.index._db.execute(proven).fetchall() == [(1,), (2,)]

    run(body())


def test_the_clock_may_be_set_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def body() -> None:
        async with await open_log(tmp_path) as log:
            await log.create_topic("t")
            for now_ms in (5000, 4000, 6000):
                monkeypatch.setattr(time, "time_ns", lambda now=now_ms: now * 1_000_000)
                await append(log, "t", [b""])
            assert [r.timestamp_ms for r in await read_all(log, "t")] == [5000, 5000, 6000]

    run(body())


def test_a_directory_that_cannot_be_created_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")

    async def body() -> None:
        with pytest.raises(TransportBroken, match=r"cannot open the log .*file/log"):
            await open_log(tmp_path / "file" / "log")

    run(body())


def test_what_is_queued_shares_one_transaction(tmp_path: Path) -> None:
    async def body() -> None:
        async with await open_log(tmp_path) as log:
            await log.create_topic("t")
            stop = FileLock(Layout(tmp_path).write_lock)
            with stop:
                appends = asyncio.gather(
                    *(log.append("t", [Record(value=b"x")]) for _ in range(500))
                )
                await asyncio.sleep(0.2)
            assert await appends == list(range(500))
            assert log._writer._commits < 10
            stop.close()

    run(body())
    assert len(contents(tmp_path)) == 500
