from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from slstream.cli import heartbeat
from slstream.cli.heartbeat import ages_s, beating


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeat, "BEAT_S", 0.02)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "alice"
    path.mkdir()
    return path


def run(folder: Path, work: str) -> subprocess.Popen[str]:
    """A process that beats while it does some work, and says that it began."""
    script = f"""
import asyncio, pathlib, time
from slstream.cli import heartbeat
heartbeat.BEAT_S = 0.02
async def work():
    await asyncio.sleep(0.1)
    print("began", flush=True)
    {work}
asyncio.run(heartbeat.beating(pathlib.Path({str(folder)!r}), work()))
"""
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "began\n"
    return process


def test_a_loop_that_turns_keeps_the_file_young(folder: Path) -> None:
    """It waits for something for a while, as a party waits for a peer."""

    async def wait() -> str:
        await asyncio.sleep(0.1)
        os.utime(folder / "alive", (1, 1))
        await asyncio.sleep(0.1)
        assert ages_s(folder.parent)["alice"] < 1
        return "done"

    assert asyncio.run(beating(folder, wait())) == "done"


@pytest.mark.parametrize("how", ["await asyncio.sleep(60)", "time.sleep(60)"])
def test_only_a_loop_that_is_stuck_lets_it_age(folder: Path, how: str) -> None:
    process = run(folder, how)
    try:
        os.utime(folder / "alive", (1, 1))
        time.sleep(0.3)
        is_young = ages_s(folder.parent)["alice"] < 1
        assert is_young == how.startswith("await")
    finally:
        process.kill()
        process.communicate()


def test_a_killed_process_leaves_its_file_behind(folder: Path) -> None:
    process = run(folder, "await asyncio.sleep(60)")
    process.kill()
    process.communicate()
    assert list(ages_s(folder.parent)) == ["alice"]


def test_nothing_is_left_after_an_end_or_an_error(folder: Path) -> None:
    async def fail() -> None:
        await asyncio.sleep(0.05)
        assert (folder / "alive").exists()
        raise ValueError("the work's own")

    with pytest.raises(ValueError, match="the work's own"):
        asyncio.run(beating(folder, fail()))
    assert ages_s(folder.parent) == {}


def test_a_folder_that_is_missing_at_first_is_no_failure(tmp_path: Path) -> None:
    async def make() -> None:
        await asyncio.sleep(0.05)
        (tmp_path / "late").mkdir()
        await asyncio.sleep(0.1)
        assert list(ages_s(tmp_path)) == ["late"]

    asyncio.run(beating(tmp_path / "late", make()))
