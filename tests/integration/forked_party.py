"""Parties as real processes that start in a moment: forked from one that has imported torch.

They run the program as ``python -m slstream party`` does, with an exit status, signals and files of
their own; they only share the imports, which take seconds each time otherwise.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import count
from multiprocessing.connection import wait
from pathlib import Path
from time import monotonic, sleep

from tests.integration.faults import Fault

PATIENCE_S = 90.0

_START = multiprocessing.get_context("forkserver")
_START.set_forkserver_preload(["tests.integration.warm_imports"])

_numbers = count(1)


def _main(
    arguments: Sequence[str], log: Path, fault: Fault | None, environment: Mapping[str, str]
) -> None:
    from slstream.cli import main

    os.setsid()
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for number in (1, 2):
        os.dup2(file, number)
    os.environ.update(environment)
    sys.argv = ["slstream", *arguments]
    if fault is not None:
        fault.install()
    main()


class ForkedParty:
    """One process of a party."""

    def __init__(
        self,
        name: str,
        topology: Path,
        run: Path,
        *more: str,
        fault: Fault | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Start it; what it says goes to ``<run>/../<name>-<number>.log``."""
        self.name = name
        self.log = run.parent / f"{name}-{next(_numbers)}.log"
        self.log.parent.mkdir(parents=True, exist_ok=True)
        arguments = ["party", name, "--topology", str(topology), "--dir", str(run)]
        arguments += ["--quiet", "--log-level", "info", *more]
        self._process = _START.Process(
            target=_main, args=(arguments, self.log, fault, environment or {}), daemon=True
        )
        self._process.start()

    @property
    def text(self) -> str:
        """What this process has said so far."""
        return self.log.read_text() if self.log.exists() else ""

    @property
    def pid(self) -> int:
        """Of the process, also after its end."""
        pid = self._process.pid
        assert pid is not None
        return pid

    @property
    def sentinel(self) -> int:
        """Ready when it has ended."""
        return self._process.sentinel

    @property
    def status(self) -> int | None:
        """Its exit status, negative after a signal; ``None`` while it runs."""
        return self._process.exitcode

    def send(self, number: signal.Signals) -> None:
        """Send a signal."""
        if self._process.exitcode is None:
            os.kill(self.pid, number)

    def end(self, patience_s: float = PATIENCE_S) -> int:
        """Wait for its end; its exit status."""
        if not wait([self.sentinel], patience_s):
            raise AssertionError(f"{self.name} did not end within {patience_s} s: {self.text}")
        self._process.join()
        status = self._process.exitcode
        assert status is not None
        return status

    def wait_for(self, text: str, patience_s: float = PATIENCE_S) -> None:
        """Wait until it has said something."""
        deadline = monotonic() + patience_s
        while text not in self.text:
            assert self.status is None, f"{self.name} ended without {text!r}: {self.text}"
            assert monotonic() < deadline, f"{self.name} never said {text!r}: {self.text}"
            sleep(0.01)

    def wait_stopped(self, patience_s: float = PATIENCE_S) -> None:
        """Wait until a SIGSTOP has taken effect."""
        deadline = monotonic() + patience_s
        stat = Path(f"/proc/{self._process.pid}/stat")
        while self.status is None and stat.read_text().rpartition(")")[2].split()[0] != "T":
            assert monotonic() < deadline, f"{self.name} was never stopped: {self.text}"
            sleep(0.01)
        assert self.status is None, f"{self.name} ended instead of being stopped: {self.text}"


@contextmanager
def all_ended(parties: list[ForkedParty]) -> Iterator[list[ForkedParty]]:
    """Kill what is left of a list of parties that grows."""
    try:
        yield parties
    finally:
        for each in parties:
            each.send(signal.SIGKILL)
        for each in parties:
            each.end()
