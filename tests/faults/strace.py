"""Running the victim under strace."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.faults.syscall_trace import CALLS, Operation, operations
from tests.source_tree import ROOT

_PYTHON = [sys.executable, "-S", "-B"]
"""Without site-packages: the log and atomic files need none, and start twice as fast."""
_STRACE = ["strace", "-f", "-y", "-xx"]
_FASTER = "--seccomp-bpf"
"""Stops at traced calls only. A signal that is injected at such a stop gets lost."""
_PATIENCE_S = 30


@functools.cache
def why_not() -> str | None:
    """What keeps strace from working here."""
    if shutil.which("strace") is None:
        return "strace is not installed"
    probe = [*_STRACE, _FASTER, "-e", "trace=?writev", "-o", os.devnull, *_PYTHON, "-c", "pass"]
    done = subprocess.run(probe, capture_output=True, text=True, timeout=_PATIENCE_S)
    return None if done.returncode == 0 else f"strace does not work: {done.stderr.strip()[-500:]}"


def require_strace() -> None:
    """Skip where strace cannot run; fail where ``SLSTREAM_REQUIRE_STRACE=1`` insists on it."""
    reason = why_not()
    if reason is None:
        return
    message = (
        f"{reason}; storage faults are injected with it: install it (apt-get install strace, "
        f"6.1 or newer; in a container allow ptrace: --cap-add=SYS_PTRACE)"
    )
    if os.environ.get("SLSTREAM_REQUIRE_STRACE") == "1":
        pytest.fail(message)
    pytest.skip(message)


@dataclass(frozen=True, slots=True, kw_only=True)
class Victim:
    """A run of the victim that has ended."""

    root: Path
    acknowledgements: Path
    lines: list[str]
    """What this run acknowledged."""
    trace: str = field(repr=False)
    status: int
    """Exit status; negative the signal that killed it."""
    errors: str

    def operations(self) -> list[Operation]:
        """What it did to the disk, if all of it was traced."""
        return operations(self.trace, self.root, self.acknowledgements)


def run_victim(folder: Path, *arguments: str, tracing: Sequence[str] | None = None) -> Victim:
    """Run the victim on ``folder / "root"``, which must exist.

    Args:
        folder: gets the acknowledgements and the trace.
        arguments: of the victim.
        tracing: options of strace; by default it notes all that changes files.
    """
    root, acknowledgements, trace = folder / "root", folder / "acknowledged", folder / "trace"
    if tracing is None:
        tracing = ["-s", "10000000", "-e", "trace=" + ",".join(f"?{call}" for call in CALLS)]
    signals = any("signal=" in option for option in tracing)
    strace = [*_STRACE, *([] if signals else [_FASTER]), "-o", str(trace)]
    with acknowledgements.open("wb") as acks:
        victim = ["-m", "tests.faults.victim", str(root), str(acks.fileno()), *arguments]
        done = subprocess.run(
            [*strace, *tracing, *_PYTHON, *victim],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=_PATIENCE_S,
            pass_fds=[acks.fileno()],
        )
    return Victim(
        root=root,
        acknowledgements=acknowledgements,
        lines=acknowledgements.read_text().splitlines(),
        trace=trace.read_text(),
        status=done.returncode,
        errors=done.stderr,
    )
