"""``slstream run`` brings its parties back, and goes on where another one was interrupted."""

from __future__ import annotations

import json
import os
import select
import signal
from pathlib import Path

import pytest

from slstream.party.summary import Summary
from tests.integration.faults import AtAppend
from tests.integration.forked_party import ForkedParty, all_ended
from tests.integration.processes import process_of, processes_of, whole_run
from tests.integration.recovered_session import (
    PARTIES,
    Result,
    assert_all_end,
    train,
    write_small,
)
from tests.integration.session_log import SessionLog

pytestmark = pytest.mark.timeout(300)

PATIENCE_S = 120.0

EPOCHS = 30
"""Enough for a signal to come while training goes on, wherever it was sent."""


def write_long(folder: Path) -> Path:
    path = write_small(folder)
    document = json.loads(path.read_text())
    document["training"]["epochs"] = EPOCHS
    path.write_text(json.dumps(document))
    return path


def wait_ended(process: int) -> None:
    """Wait until a process that is not our child has ended."""
    try:
        handle = os.pidfd_open(process)
    except ProcessLookupError:
        return
    try:
        ready, _, _ = select.select([handle], [], [], PATIENCE_S)
        assert ready, f"process {process} did not end within {PATIENCE_S} s"
    finally:
        os.close(handle)


@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda n: n.name)
def test_a_run_goes_on_after_an_interruption(number: signal.Signals, tmp_path: Path) -> None:
    topology, run = write_long(tmp_path), tmp_path / "run"
    expected = train(topology, tmp_path / "undisturbed" / "run")
    log = SessionLog(run)
    with whole_run(topology, run) as first:
        log.wait_for("bob", "alice", "activation", "5/1")
        first.process.send_signal(number)
        assert first.end(PATIENCE_S) == 130
        assert f"interrupted by {number.name}; all parties have ended" in first.text
        assert f"run the same again with --dir {run}" in " ".join(first.text.split())
    assert processes_of(run) == []
    assert [kind for kind, _, _ in log.lobby()] == ["announce"]
    with whole_run(topology, run) as second:
        assert second.end(PATIENCE_S) == 0, second.text
    assert all("checkpoint loaded" in (run / name / "log.txt").read_text() for name in PARTIES)
    assert Result.of(run) == expected
    assert_merged(run, log)


@pytest.mark.long
def test_a_run_takes_over_from_one_that_was_killed(tmp_path: Path) -> None:
    topology, run = write_long(tmp_path), tmp_path / "run"
    expected = train(topology, tmp_path / "undisturbed" / "run")
    log = SessionLog(run)
    with whole_run(topology, run) as first:
        log.wait_for("bob", "alice", "activation", "5/1")
        old = {name: process_of(run, name) for name in PARTIES}
        first.process.kill()
        first.process.wait()
    # The others wait for her, and nobody brings her back.
    os.kill(old["carol"], signal.SIGKILL)
    with whole_run(topology, run, "--log-level", "warning") as second:
        for name in ("alice", "bob"):
            wait_ended(old[name])
            assert f"error: another process of {name} has " in (run / name / "log.txt").read_text()
        log.wait_for("bob", "alice", "activation", "15/1")
        os.kill(process_of(run, "bob"), signal.SIGKILL)
        assert second.end(PATIENCE_S) == 0, second.text
        assert "killed party is started again party=bob" in second.text
    assert processes_of(run) == []
    text = (run / "bob" / "log.txt").read_text()
    assert "\0" not in text
    assert text.count("checkpoint loaded") == 2
    assert Result.of(run) == expected
    assert_merged(run, log)


def assert_merged(run: Path, log: SessionLog) -> None:
    """The run's summary is about the one session, and counts what its links hold."""
    (announced,) = {session for _, session, _ in log.lobby()}
    summary = Summary.from_json((run / "summary.json").read_text())
    assert (summary.session, summary.outcome) == (announced, "finished")
    links = {(entry.sender, entry.receiver) for entry in summary.traffic}
    assert len(links) == 4
    for sender, receiver in links:
        counted = [
            e.frames for e in summary.traffic if (e.sender, e.receiver) == (sender, receiver)
        ]
        assert sum(counted) == log.link(sender, receiver).frames


def test_a_run_goes_on_without_a_party_that_has_finished(tmp_path: Path) -> None:
    topology, run = write_small(tmp_path), tmp_path / "run"
    with all_ended([]) as started:
        started += [ForkedParty(name, topology, run) for name in ("bob", "carol")]
        bob, carol = started
        fault = AtAppend(topic=".alice-to-bob.", kind="end")
        started.append(ForkedParty("alice", topology, run, fault=fault))
        assert started[-1].end() == -signal.SIGKILL
        assert_all_end([bob])
        carol.send(signal.SIGKILL)
        carol.end()
    with whole_run(topology, run) as program:
        assert program.end(PATIENCE_S) == 0, program.text
    assert not (run / "bob" / "log.txt").exists()
    summary = Summary.from_json((run / "summary.json").read_text())
    assert summary.weights == Result.of(run).weights
    assert set(summary.time) == set(PARTIES)


def test_a_run_after_one_whose_end_a_party_lacks(tmp_path: Path) -> None:
    """It died when the session was over for the others: first it makes up for that."""
    topology, run = write_small(tmp_path), tmp_path / "run"
    train(topology, run)
    (run / "bob" / "summary.json").unlink()
    with whole_run(topology, run) as program:
        assert program.end(PATIENCE_S) == 0, program.text
    ended = [session for kind, session, _ in SessionLog(run).lobby() if kind == "close"]
    assert len(ended) == 2
    for folder in (run, run / "bob"):
        assert Summary.from_json((folder / "summary.json").read_text()).session == ended[-1]
