"""A process that is stopped while it holds the write lock does not hold up others for ever."""

from __future__ import annotations

import asyncio
import fcntl
import time
from pathlib import Path

import pytest

from slstream.errors import TransportTimeout
from slstream.transport.contract import Record
from slstream.transport.embedded import transport
from tests.transport.logs import open_log, read_all, run, values


def test_a_write_that_hangs_is_given_up_and_says_what_it_waits_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def body() -> None:
        async with await open_log(tmp_path / "log") as log:
            await log.create_topic("t")
            await log.append("t", [Record(value=b"first")])
            monkeypatch.setattr(transport, "STUCK_S", 0.2)
            with (tmp_path / "log" / "write.lock").open() as held:
                fcntl.flock(held, fcntl.LOCK_EX)
                with pytest.raises(TransportTimeout, match=r"append to t\[0\] within 0.2 s.*lock"):
                    await log.append("t", [Record(value=b"second")])
                with pytest.raises(TransportTimeout, match="could not use the log within"):
                    await log.flush()
                assert values(await log.read("t", 0)) == [b"first"]
            # What was given up may still take effect, and the log goes on.
            monkeypatch.setattr(transport, "STUCK_S", 60.0)
            await log.append("t", [Record(value=b"third")])
            found = values(await read_all(log, "t"))
            assert found == [b"first", b"second", b"third"]

    run(body())


def test_to_open_a_log_that_is_held_up_ends_and_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def body() -> None:
        await (await open_log(tmp_path / "log")).aclose()
        monkeypatch.setattr(transport, "STUCK_S", 0.2)
        with (tmp_path / "log" / "write.lock").open() as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            with pytest.raises(
                TransportTimeout, match=r"lock within 0.2 s.*/log/write\.lock is st"
            ):
                await open_log(tmp_path / "log")
            async with await open_log(tmp_path / "log", read_only=True) as monitor:
                assert await monitor.topics() == []
        await (await open_log(tmp_path / "log")).aclose()

    run(body())


def test_who_gives_up_opening_a_log_leaves_no_thread_that_waits(tmp_path: Path) -> None:
    """The end of an event loop waits for such threads: Ctrl-C would not end the program."""

    async def body() -> None:
        opening = asyncio.create_task(open_log(tmp_path / "log"))
        await asyncio.sleep(0.1)
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening

    (tmp_path / "log").mkdir()
    began = time.monotonic()
    with (tmp_path / "log" / "write.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        run(body())
        assert time.monotonic() - began < transport.STUCK_S / 2
