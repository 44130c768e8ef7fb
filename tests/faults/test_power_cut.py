"""A power cut at any moment: the log and its checkpoints keep what was promised.

A real process is traced, and from its system calls come the disks that a power cut may leave.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.faults.disk_image import Disk, Fate
from tests.faults.power_cuts import PowerCut, power_cuts
from tests.faults.promises import Breach, Promises, findings
from tests.faults.strace import Victim, require_strace, run_victim
from tests.faults.syscall_trace import Acknowledgement

SEED = 20_260

_log = logging.getLogger(__name__)


@pytest.fixture(autouse=True)
def _needs_strace() -> None:
    require_strace()


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Where images lie: in memory where that can be had, because recovery syncs each of them."""
    memory = Path("/dev/shm")
    path = Path(tempfile.mkdtemp(dir=memory if memory.is_dir() else tmp_path))
    yield path
    shutil.rmtree(path)


@pytest.fixture(autouse=True)
def _silent_recovery() -> Iterator[None]:
    logger = logging.getLogger("slstream")
    before = logger.level
    logger.setLevel(logging.ERROR)
    yield
    logger.setLevel(before)


def traced(folder: Path, *arguments: str) -> Victim:
    (folder / "root").mkdir(parents=True, exist_ok=True)
    victim = run_victim(folder, *arguments)
    assert victim.status == 0, victim.errors
    return victim


@dataclass(slots=True)
class Verdict:
    """What became of a number of images."""

    kept: Path
    """Where an image of each breach is kept."""
    images: int = 0
    broken: Counter[Breach] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)

    async def add(self, cut: PowerCut, root: Path) -> None:
        self.images += 1
        cut.image.write(root)
        found = await findings(root, cut.promises)
        shutil.rmtree(root)
        for finding in {each.breach: each for each in found}.values():
            if not self.broken[finding.breach]:
                self._keep(cut, finding.breach, finding.detail)
            self.broken[finding.breach] += 1

    def _keep(self, cut: PowerCut, breach: Breach, detail: str) -> None:
        root = self.kept / breach.name.lower()
        cut.image.write(root)
        self.examples.append(f"{cut}: {breach} ({detail}); image in {root}")


@pytest.fixture
def check(folder: Path, tmp_path: Path) -> Callable[..., Verdict]:
    """Opens the image of each power cut and looks for broken promises."""

    def checked(cuts: Iterable[PowerCut], until: Breach | None = None) -> Verdict:
        verdict = Verdict(tmp_path)

        async def body() -> None:
            for cut in cuts:
                await verdict.add(cut, folder / "root")
                if until in verdict.broken:
                    return

        asyncio.run(body())
        counts = ", ".join(f"{each.name} {n}" for each, n in verdict.broken.items())
        _log.info("%d images, broken: %s", verdict.images, counts or "none")
        return verdict

    return checked


DURABILITIES = ["step", "checkpoint", "checkpoint,step"]


@pytest.mark.parametrize(
    "durability", [*DURABILITIES[:2], pytest.param(DURABILITIES[2], marks=pytest.mark.long)]
)
def test_every_promise_is_kept(
    tmp_path: Path, check: Callable[..., Verdict], durability: str
) -> None:
    victim = traced(tmp_path, "--durability", durability)
    operations = victim.operations()
    verdict = check(power_cuts(operations, seed=SEED, per_operation=6))
    assert not verdict.broken, verdict
    # Many fates lead to the same disk, and how many depends on what a sync happened to cover.
    assert verdict.images > len(operations)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("durability", DURABILITIES)
def test_every_promise_is_kept_at_length(
    tmp_path: Path, check: Callable[..., Verdict], durability: str, seed: int
) -> None:
    victim = traced(tmp_path, "--durability", durability, "--appends", "40")
    verdict = check(power_cuts(victim.operations(), seed=seed, per_operation=24))
    assert not verdict.broken, verdict


@pytest.mark.parametrize(
    ("without", "durability", "breach"),
    [
        ("synchronous", "step", Breach.LOST_RECORD),
        ("full", "step", Breach.LOST_RECORD),
        ("wal-sync", "checkpoint", Breach.AHEAD),
        ("segment-sync", "step", Breach.UNREADABLE),
        ("segment-sync", "checkpoint", Breach.UNREADABLE),
        ("segments-directory-sync", "step", Breach.UNREADABLE),
        ("segments-directory-sync", "checkpoint", Breach.UNREADABLE),
        ("parents-sync", "checkpoint", Breach.LOST_RECORD),
        ("flush", "checkpoint", Breach.AHEAD),
        ("file-fsync", "checkpoint", Breach.TORN_CHECKPOINT),
        ("directory-fsync", "checkpoint", Breach.LOST_CHECKPOINT),
    ],
)
def test_without_any_of_the_syncs_a_promise_is_broken(
    tmp_path: Path,
    check: Callable[..., Verdict],
    without: str,
    durability: str,
    breach: Breach,
) -> None:
    """The negative controls: each sync is needed, and these tests would notice its loss."""
    victim = traced(tmp_path, "--durability", durability, "--without", without)
    cuts = power_cuts(victim.operations(), seed=SEED, per_operation=2)
    verdict = check(cuts, until=breach)
    assert breach in verdict.broken, verdict


@pytest.mark.long
def test_a_second_power_cut_after_a_recovery(tmp_path: Path, check: Callable[..., Verdict]) -> None:
    """What recovery does is as safe as what it repairs, and so is what is appended after it."""
    operations = traced(tmp_path / "one", "--appends", "11").operations()
    disk = Disk()
    for number, operation in enumerate(operations):
        if operation == Acknowledgement(line="visible 22"):
            break
        disk.apply(number, operation)
    # The rows of six records are there, but not their bytes.
    base = disk.image(Fate("segments lost", lambda change: not change.path.endswith(".segment")))
    (tmp_path / "two").mkdir()
    base.write(tmp_path / "two" / "root")
    victim = traced(tmp_path / "two", "--durability", "checkpoint,step")
    assert victim.lines[0] == "durable 18"
    since = Promises(records=16, checkpoint=16)
    operations = victim.operations()
    verdict = check(power_cuts(operations, seed=SEED, per_operation=4, base=base, since=since))
    assert not verdict.broken, verdict
    assert verdict.images > len(operations) // 2
