"""Processes that look like parties and do nothing."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def sleeping(*words: str | Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that sleeps, with these words on its command line."""
    code = "import time; print(flush=True); time.sleep(60)"
    process = subprocess.Popen([sys.executable, "-c", code, *map(str, words)], stdout=-1)
    try:
        if process.stdout is None or not process.stdout.readline():
            raise AssertionError("it did not start")
        yield process
    finally:
        process.kill()
        process.communicate()


def command_of(folder: Path, party: str = "bob") -> Sequence[str | Path]:
    return ("slstream", "party", party, "--dir", folder)
