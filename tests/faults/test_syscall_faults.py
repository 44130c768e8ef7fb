"""EIO, ENOSPC and SIGKILL at the system calls of an append, a flush and a checkpoint."""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from slstream.transport.embedded.transport import EmbeddedTransport
from tests.faults.promises import Breach, Promises, after_death, findings
from tests.faults.strace import Victim, require_strace, run_victim
from tests.faults.syscall_faults import Fault, Outcome, Site, Work, sample, with_fault
from tests.faults.workload import (
    CHUNKS,
    TOPIC,
    checkpoint_of,
    checkpoint_path,
    frame_at,
    log_directory,
)

SEED = 7
WORK = ("--appends", "1", "--checkpoint-every", "1", "--durability")

_log = logging.getLogger(__name__)


@pytest.fixture(autouse=True)
def _needs_strace() -> None:
    require_strace()


def nothing(base: Path) -> None:
    (base / "root").mkdir(parents=True)


def killed_log(base: Path) -> None:
    """A log whose process was killed: its last records are in the WAL, and not proven."""
    root = base / "root"

    async def body() -> None:
        log = await EmbeddedTransport.open(log_directory(base / "live"))
        async with log:
            await log.create_topic(TOPIC)
            for offset in range(0, 3 * CHUNKS, CHUNKS):
                await log.append(TOPIC, frame_at(offset))
            leave = shutil.ignore_patterns("*-shm", "*.socket")
            shutil.copytree(base / "live", root, ignore=leave)

    asyncio.run(body())
    shutil.rmtree(base / "live")
    for number in (1, 2):
        path = checkpoint_path(root, number)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(checkpoint_of(number * CHUNKS))


Start = Callable[[Path], None]


def sweep(tmp_path: Path, start: Start, durability: str, fault: Fault, count: int | None) -> None:
    base, folder = tmp_path / "base", tmp_path / "run"
    start(base)
    work = Work.survey(base, folder, [*WORK, durability])
    found = work.sites(folder / "root", fault)
    chosen = found if count is None else sample(found, count, SEED)

    async def body() -> list[Outcome]:
        return [await with_fault(work, folder, site, fault) for site in chosen]

    outcomes = asyncio.run(body())
    injected = sum(each.injected for each in outcomes)
    _log.info("%d runs, %d faults, %d sites", len(chosen), injected, len(found))
    wrong = [each for outcome in outcomes for each in outcome.wrong]
    assert not wrong, "\n".join(wrong)
    # The threads' order is not the same in each run.
    assert injected >= 0.9 * len(chosen)


@pytest.mark.parametrize("fault", Fault)
@pytest.mark.parametrize("durability", ["step", "checkpoint"])
@pytest.mark.parametrize(("start", "count"), [(nothing, 4), (killed_log, 8)])
def test_some_calls(
    tmp_path: Path, start: Start, count: int, durability: str, fault: Fault
) -> None:
    sweep(tmp_path, start, durability, fault, count)


@pytest.mark.long
@pytest.mark.parametrize("fault", Fault)
@pytest.mark.parametrize("durability", ["step", "checkpoint"])
@pytest.mark.parametrize("start", [nothing, killed_log])
def test_every_call(tmp_path: Path, start: Start, durability: str, fault: Fault) -> None:
    sweep(tmp_path, start, durability, fault, None)


SEGMENT = "runs/small/log/segments/000000000002.segment"
TEMPORARY = "runs/small/bob/checkpoints/00001.checkpoint"


@pytest.mark.parametrize(
    ("without", "fault", "site", "says"),
    [
        ("order", Fault.SIGKILL, ("pwrite64", SEGMENT, 1), Breach.LOST_RECORD),
        ("rename", Fault.SIGKILL, ("write", TEMPORARY, 1), Breach.TORN_CHECKPOINT),
        ("sync-errors", Fault.EIO, ("fdatasync", SEGMENT, 1), "after a sync that failed"),
    ],
)
def test_what_is_done_wrong_is_noticed(
    tmp_path: Path, without: str, fault: Fault, site: tuple[str, str, int], says: str
) -> None:
    """The negative controls: they acknowledge too early, write in place, go on after an error."""
    base, folder = tmp_path / "base", tmp_path / "run"
    killed_log(base)
    work = Work.survey(base, folder, [*WORK, "step", "--without", without])
    call, path, number = site
    place = Site(call=call, path=path, number=number)
    outcome = asyncio.run(with_fault(work, folder, place, fault))
    assert any(says in each for each in outcome.wrong), outcome


def goes_on(folder: Path, durability: str, failed: Victim) -> None:
    """With space back, the log goes on where it was."""
    again = run_victim(folder, "--durability", durability, tracing=["-e", "trace=none"])
    assert again.status == 0, again.errors
    promises = after_death(again.lines)
    assert promises.records > after_death(failed.lines).records
    assert asyncio.run(findings(again.root, promises)) == []


@pytest.mark.parametrize("durability", ["step", "checkpoint"])
@pytest.mark.parametrize(
    ("call", "path", "number"),
    [
        ("pwrite64", "runs/small/log/segments/000000000001.segment", 3),
        ("pwrite64", "runs/small/log/index.sqlite-wal", 45),
    ],
)
def test_a_disk_that_is_full_in_the_middle_of_an_append(
    tmp_path: Path, durability: str, call: str, path: str, number: int
) -> None:
    nothing(tmp_path)
    site = Site(call=call, path=path, number=number)
    full = site.options(tmp_path, Fault.ENOSPC, from_here_on=True)
    victim = run_victim(tmp_path, "--durability", durability, tracing=full)
    assert victim.lines[-2:] == ["failed TransportBroken", f"refused {TOPIC}"], victim
    assert "is full" in victim.errors or "No space left" in victim.errors
    goes_on(tmp_path, durability, victim)


@pytest.mark.parametrize("durability", ["step", "checkpoint"])
@pytest.mark.parametrize("limit", [1000, 4096, 20_000])
def test_a_disk_that_is_full_in_the_middle_of_a_checkpoint(
    tmp_path: Path, durability: str, limit: int
) -> None:
    nothing(tmp_path)
    run_victim(tmp_path, "--durability", durability, "--appends", "8", tracing=["-e", "trace=none"])
    arguments = ["--durability", durability, "--file-limit", str(limit), "--appends", "4"]
    victim = run_victim(tmp_path, *arguments, tracing=["-e", "trace=none"])
    assert "failed StorageError" in victim.lines, victim
    assert "File too large" in victim.errors
    assert asyncio.run(findings(victim.root, Promises(records=24, checkpoint=16))) == []
    goes_on(tmp_path, durability, victim)
