"""The system calls at which a fault can be injected, and what a run with a fault must look like."""

from __future__ import annotations

import shutil
import signal
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from random import Random

from tests.faults.promises import after_death, findings
from tests.faults.strace import Victim, run_victim
from tests.faults.syscall_trace import Call, calls, path_of, strings_of
from tests.faults.victim import FAILED

SYNCS = frozenset({"fsync", "fdatasync"})
CHANGES = SYNCS | {"openat", "write", "pwrite64", "ftruncate", "rename", "unlink", "mkdir"}
"""Other calls only look, or lock. They get EIO but no SIGKILL: the next change has that."""
_SPARED = frozenset({"close", "writev"})
"""A close that fails has closed; ``writev`` is how the victim acknowledges."""


class Fault(StrEnum):
    """What happens instead of a call, or before it."""

    EIO = "error=EIO"
    ENOSPC = "error=ENOSPC"
    SIGKILL = "signal=SIGKILL"


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """A thread's ``number``-th call of this name on this file."""

    call: str
    path: str
    number: int
    forgiven: bool = False
    """Whether it is a sync of SQLite's whose failure SQLite may keep to itself."""

    def options(self, folder: Path, fault: Fault, *, from_here_on: bool = False) -> list[str]:
        """The options of strace that inject a fault here, and show acknowledgements."""
        when = f"{self.number}{'+' if from_here_on else ''}"
        here = ["-P", str(folder / "root" / self.path), "-P", str(folder / "acknowledged")]
        inject = f"inject={self.call}:{fault}:when={when}"
        return [*here, "-e", f"trace={self.call},writev", "-e", inject]


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What the victim is to do, and how it goes undisturbed."""

    base: Path
    """Its ``root`` is what the victim starts with; only copies of it are touched."""
    arguments: Sequence[str]
    calls: Sequence[Call]
    """Those on files below the root."""
    lines: Sequence[str]

    @classmethod
    def survey(cls, base: Path, folder: Path, arguments: Sequence[str]) -> Work:
        """Let the victim do its work once."""
        shutil.copytree(base, folder)
        victim = run_victim(folder, *arguments, tracing=["-e", "trace=%file,%desc"])
        assert victim.status == 0, victim.errors
        return cls(
            base=base,
            arguments=arguments,
            calls=[call for call in calls(victim.trace) if _relative(call, victim.root)],
            lines=victim.lines,
        )

    def sites(self, root: Path, fault: Fault) -> list[Site]:
        """Where a fault can be injected."""
        counts: Counter[tuple[int, str, str]] = Counter()
        found: dict[tuple[str, str, int], Site] = {}
        for call in self.calls:
            if call.name in CHANGES or (fault is Fault.EIO and call.name not in _SPARED):
                path = _relative(call, root) or ""
                counts[call.thread, call.name, path] += 1
                number = counts[call.thread, call.name, path]
                site = Site(
                    call=call.name, path=path, number=number, forgiven=self._forgives(call, path)
                )
                # Where two threads come so far, the fault comes to the first one first.
                found.setdefault((call.name, path, number), site)
        return list(found.values())

    def _forgives(self, call: Call, path: str) -> bool:
        """What SQLite syncs, with ``fdatasync``, without telling of a failure.

        - The database file, when the WAL is moved at the last connection's end: the WAL stays.
        - The WAL then, which concerns the thread that opens and closes while the log is opened.
        - Directories: see unixSync() in its os_unix.c. Our own syncs of them use ``fsync``.
        """
        opening = call.thread == self.calls[0].thread
        kept = path.endswith(("/log", "/index.sqlite")) or opening
        return call.name == "fdatasync" and kept


def _relative(call: Call, root: Path) -> str | None:
    path = path_of(call.arguments)
    if path is None or not path.is_relative_to(root):
        return None
    return str(path.relative_to(root))


def sample(of: list[Site], count: int, seed: int) -> list[Site]:
    """Some sites: of as many calls and files as there can be, syncs first."""
    chance = Random(seed)
    shuffled = chance.sample(of, len(of))
    turns: Counter[tuple[str, str]] = Counter()
    ranked = []
    for place, site in enumerate(shuffled):
        turn = turns[site.call, site.path]
        turns[site.call, site.path] += 1
        ranked.append((turn, site.call not in SYNCS, place, site))
    return [site for *_, site in sorted(ranked, key=lambda each: each[:3])[:count]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Of a run with a fault."""

    injected: bool
    """Whether the run came to the site."""
    wrong: Sequence[str]


async def with_fault(work: Work, folder: Path, site: Site, fault: Fault) -> Outcome:
    """Let the victim work with one fault, and see what is wrong after it."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(work.base, folder)
    victim = run_victim(folder, *work.arguments, tracing=site.options(folder, fault))
    found = _of_the_end(victim, fault)
    if site.call in SYNCS and fault is Fault.EIO and not site.forgiven:
        found += _of_a_failed_sync(victim, work)
    promises = after_death(victim.lines)
    found += [f"{each.breach}: {each.detail}" for each in await findings(victim.root, promises)]
    injected = victim.status == -signal.SIGKILL or any(c.injected for c in calls(victim.trace))
    wrong = [f"{fault} at {site}: {each}; {victim.lines} {victim.errors}" for each in found]
    return Outcome(injected=injected, wrong=wrong)


def _of_the_end(victim: Victim, fault: Fault) -> list[str]:
    expected = {0, FAILED, -signal.SIGKILL} if fault is Fault.SIGKILL else {0, FAILED}
    found = [] if victim.status in expected else [f"ended with {victim.status}"]
    broken = "failed TransportBroken"
    if broken in victim.lines:
        later = victim.lines[victim.lines.index(broken) + 1 :]
        found += [f"{line} of a broken log" for line in later if not line.startswith("refused")]
    return found


def _of_a_failed_sync(victim: Victim, work: Work) -> list[str]:
    """It stops the victim with an error of ours; nothing is acknowledged on top of it."""
    lines: list[str] = []
    failed = False
    for call in calls(victim.trace):
        failed |= call.injected
        if failed and call.name == "writev":
            lines += b"".join(strings_of(call.arguments)).decode().splitlines()
    found = [
        f"{line} after a sync that failed"
        for line in lines
        if not line.startswith(("failed", "refused"))
    ]
    if failed and victim.status != FAILED and victim.lines != work.lines:
        found.append(f"ended with {victim.status} after a sync that failed")
    return found
