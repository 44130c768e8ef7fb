"""Raw ids and cells never reach the log, whatever happens."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from slstream.errors import SlstreamError, TableError
from slstream.party.runtime import run_party
from slstream.party.telemetry import Progress
from slstream.topology import Topology
from tests.party.federation import write_federation

IDS = re.compile(r"\b\d{3}\b(?=,)|(?<=,)\d{3}\b(?=,)")
"""The ids of the tiny federation in its files: three digits between commas."""


@pytest.fixture
def topology(tmp_path: Path) -> Topology:
    """A tiny federation whose ids would be recognised anywhere."""
    federation = write_federation(tmp_path)
    for name in ("alice.csv", "bob.csv"):
        path = tmp_path / name
        path.write_text(IDS.sub(lambda match: f"patient-{match[0]}", path.read_text()))
    return federation.load("training.epochs=1", "codec={forward: raw32, backward: raw32}")


def run_both(topology: Topology, directory: Path) -> Iterator[SlstreamError | None]:
    """Run the parties in two threads, bob once there is a session; how each ended, alice first."""
    announced = threading.Event()

    def notice(progress: Progress) -> None:
        if progress.session:
            announced.set()

    with ThreadPoolExecutor(2) as threads:
        alice = threads.submit(
            run_party, "alice", topology, directory=directory, on_progress=notice
        )
        assert announced.wait(30)
        bob = threads.submit(run_party, "bob", topology, directory=directory)
        for end in (alice, bob):
            error = end.exception(timeout=50)
            if error is not None and not isinstance(error, SlstreamError):
                raise error
            yield error


def logged(directory: Path) -> bytes:
    """All bytes of the log."""
    content = b"".join(
        path.read_bytes() for path in (directory / "log").rglob("*") if path.is_file()
    )
    assert len(content) > 1000
    return content


def test_a_session_that_trains(topology: Topology, tmp_path: Path) -> None:
    assert "patient-007" in (tmp_path / "alice.csv").read_text()
    assert list(run_both(topology, tmp_path / "run")) == [None, None]
    assert b"patient" not in logged(tmp_path / "run")


def repeat_a_row(table: Path) -> None:
    lines = table.read_text().splitlines()
    table.write_text("\n".join([*lines, lines[-1], *lines[1:]]) + "\n")


def test_a_table_that_the_feature_party_refuses(topology: Topology, tmp_path: Path) -> None:
    repeat_a_row(tmp_path / "bob.csv")
    other, own = run_both(topology, tmp_path / "run")
    assert isinstance(own, TableError)
    assert "patient-" in str(own)
    assert "its table cannot be used; the party itself was told why" in str(other)
    assert b"patient" not in logged(tmp_path / "run")


def test_a_table_that_the_label_party_refuses(topology: Topology, tmp_path: Path) -> None:
    # She fails before she announces a session, so nobody else is there yet.
    repeat_a_row(tmp_path / "alice.csv")
    with pytest.raises(TableError, match="patient-"):
        run_party("alice", topology, directory=tmp_path / "run")
    assert b"patient" not in logged(tmp_path / "run")
