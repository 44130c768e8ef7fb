"""Where the files of a run go when the user did not say."""

from __future__ import annotations

from itertools import count
from pathlib import Path

from slstream.transport.embedded.folders import create_folder, sync_file

RUNS = Path("runs")


def new_run_directory(federation: str, *, under: Path = RUNS) -> Path:
    """Make and return ``<under>/<federation>-<n>`` with the first ``n`` that is free, from 1.

    Two runs that start at once get two directories.
    """
    create_folder(under)
    for n in count(1):
        directory = under / f"{federation}-{n}"
        try:
            directory.mkdir()
        except FileExistsError:
            continue
        sync_file(under)
        return directory
    raise AssertionError("unreachable: count() does not end")


def shared_directory(federation: str, *, under: Path = RUNS) -> Path:
    """``<under>/<federation>``: the same for every party started by hand, so that they meet."""
    return under / federation
