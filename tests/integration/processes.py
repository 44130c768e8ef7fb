"""Parties as real processes of the operating system."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep
from typing import Any

from tests.party.small_session import document, write_tables

PATIENCE_S = 40.0


def write_federation(folder: Path, features: int, **changes: Any) -> Path:
    """Tables and a topology file; returns its path."""
    write_tables(folder)
    path = folder / "small.yaml"
    path.write_text(json.dumps(document(features, **changes)))
    return path


class Program:
    """A command of ours that runs, with what it has written so far."""

    def __init__(
        self, folder: Path, *arguments: str | Path, before: Callable[[], None] | None = None
    ) -> None:
        self.log = folder / f"{'-'.join(str(a) for a in arguments[:2]).replace('/', '_')}.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "slstream", *map(str, arguments)],
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=before,
                env={**os.environ, "SLSTREAM_DEBUG": ""},
            )

    @property
    def text(self) -> str:
        return self.log.read_text()

    def wait_for(self, text: str) -> None:
        """Wait until the program has written something."""
        deadline = monotonic() + PATIENCE_S
        while text not in self.text:
            assert self.process.poll() is None, self.text
            assert monotonic() < deadline, f"{text!r} never came: {self.text}"
            sleep(0.02)

    def end(self, timeout_s: float = PATIENCE_S) -> int:
        """Wait for its end; its exit status."""
        try:
            return self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it did not end within {timeout_s} s: {self.text}") from None


@contextmanager
def party(
    name: str, topology: Path, run: Path, before: Callable[[], None] | None = None
) -> Iterator[Program]:
    """One party's process; killed at the end, should it still run."""
    arguments = ["--topology", str(topology), "--dir", str(run), "--json", "--log-level", "info"]
    with _killed(Program(topology.parent, "party", name, *arguments, before=before)) as program:
        yield program


@contextmanager
def whole_run(topology: Path, run: Path, *more: str) -> Iterator[Program]:
    """``slstream run`` without the comparison."""
    arguments = ["--dir", str(run), "--no-baseline", *more]
    with _killed(Program(topology.parent, "run", topology, *arguments)) as program:
        yield program


@contextmanager
def _killed(program: Program) -> Iterator[Program]:
    try:
        yield program
    finally:
        program.process.kill()
        program.process.wait()


def processes_of(run: Path) -> list[int]:
    """Ids of the processes whose command line names a run's directory."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes()
            state = (folder / "stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if str(run).encode() in command and state != "Z":
            found.append(int(folder.name))
    return found


def process_of(run: Path, name: str) -> int:
    """Id of the process that runs one party of a run."""
    for process in processes_of(run):
        arguments = Path(f"/proc/{process}/cmdline").read_bytes().split(b"\0")
        if b"party" in arguments and name.encode() in arguments:
            return process
    raise AssertionError(f"{name} has no process in {run}")
