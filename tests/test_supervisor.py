from __future__ import annotations

import asyncio
import json
import os
import signal
import threading
from pathlib import Path

import pytest

import slstream
from slstream import supervisor
from slstream.errors import Interrupted, SessionAborted, StorageError
from slstream.party.telemetry import PartyState, Progress
from slstream.supervisor import run, write_topology
from slstream.topology import Topology
from tests.integration.processes import (
    process_of,
    processes_of,
    whole_run,
    write_federation,
)
from tests.party.small_session import document, topology

LONG = {"batch_size": 16, "epochs": 60000, "validation": 0.25}


def test_run_is_the_function() -> None:
    assert slstream.run is run
    assert callable(slstream.run)


def test_a_run_inside_an_event_loop_merges_what_all_parties_saw(tmp_path: Path) -> None:
    seen: list[Progress] = []
    federation = topology(tmp_path, features=2)

    async def main() -> slstream.Summary:
        return slstream.run(
            federation, directory=tmp_path / "run", on_progress=seen.append, baseline=True
        )

    summary = asyncio.run(main())
    on_disk = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert on_disk == json.loads(summary.to_json())
    assert set(summary.time) == set(summary.weights) == {"alice", "bob", "carol"}
    assert {entry.sender for entry in summary.traffic} == {"alice", "bob", "carol"}
    assert summary.outcome == "finished"
    assert summary.baseline is not None
    assert summary.baseline.metrics == summary.metrics  # raw32: the same bits
    assert {event.party for event in seen} == {"alice", "bob", "carol"}
    last = {event.party: event.state for event in seen}
    assert set(last.values()) == {PartyState.FINISHED}
    text = (tmp_path / "run" / "bob" / "log.txt").read_text()
    for line in ("log opened", "session joined", "rows matched", "epoch done", "session over"):
        assert f" info {line} " in text
    assert processes_of(tmp_path) == []


def test_sigterm_ends_every_process(tmp_path: Path) -> None:
    path, directory = write_federation(tmp_path, 1, training=LONG), tmp_path / "run"
    with whole_run(path, directory) as program:
        program.wait_for("epoch 1/")
        assert len(processes_of(directory)) == 3
        program.process.send_signal(signal.SIGTERM)
        assert program.end() == 130
        assert processes_of(directory) == []
        assert "interrupted by SIGTERM; all parties have ended" in program.text
        assert "Traceback" not in program.text


def test_a_party_that_is_killed_is_named_with_the_signal(tmp_path: Path) -> None:
    path, directory = write_federation(tmp_path, 1, training=LONG), tmp_path / "run"
    with whole_run(path, directory) as program:
        program.wait_for("epoch 1/")
        os.kill(process_of(directory, "bob"), signal.SIGKILL)
        assert program.end(timeout_s=12) == 1
        assert processes_of(directory) == []
        assert "error: bob: it was killed by SIGKILL; its last lines in " in program.text
        # The others were ended by the supervisor, which is no failure of theirs.
        assert "alice: it" not in program.text
        assert "exit status 130" not in program.text


def test_what_the_failing_party_said_comes_first(tmp_path: Path) -> None:
    federation = topology(tmp_path)
    table = tmp_path / "bob.csv"
    table.write_text(table.read_text().replace("id,x,z,y", "id,x,zz,y"))
    with pytest.raises(SessionAborted) as caught:
        run(federation, directory=tmp_path / "run")
    lines = str(caught.value).splitlines()
    assert lines[0].startswith("bob: ")
    assert "no column 'z'" in lines[0]
    assert any(
        line.startswith("alice: bob refused to take part: its table cannot be used")
        for line in lines[1:]
    )
    assert processes_of(tmp_path) == []


def test_a_listener_that_raises_ends_the_run(tmp_path: Path) -> None:
    def listener(progress: Progress) -> None:
        raise KeyError(progress.party)

    with pytest.raises(KeyError):
        run(topology(tmp_path, training=LONG), directory=tmp_path / "run", on_progress=listener)
    assert processes_of(tmp_path) == []


def test_a_run_in_a_thread_can_be_interrupted(tmp_path: Path) -> None:
    # As for a notebook: the keyboard's signal reaches the main thread only.
    trained = threading.Event()

    def listener(progress: Progress) -> None:
        if progress.state is PartyState.TRAINING:
            trained.set()

    inner = supervisor._Supervisor(topology(tmp_path, training=LONG), tmp_path / "run", listener)
    outcome: list[BaseException] = []

    def work() -> None:
        try:
            asyncio.run(inner.run())
        except Interrupted as error:
            outcome.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    assert trained.wait(40)
    inner.interrupt()
    thread.join(15)
    assert not thread.is_alive()
    assert [type(error) for error in outcome] == [Interrupted]
    inner.interrupt()  # once more does nothing
    assert processes_of(tmp_path) == []


def test_the_written_topology_agrees_with_the_original(tmp_path: Path) -> None:
    value = document(1)
    value["parties"]["bob"]["base"]["args"] |= {"nothing": None, "name": "läßt 😀"}
    (tmp_path / "ids.key").write_text("x" * 20)
    value["alignment"]["key_file"] = "ids.key"
    federation = Topology.from_dict(value, tmp_path)
    read = Topology.load(write_topology(federation, tmp_path / "elsewhere"))
    assert read.differences(federation.agreed()) == ()
    assert read.file.parties["bob"].base == federation.file.parties["bob"].base
    for party in federation.parties:
        assert read.data_path(read.party(party.id)) == federation.data_path(party)
    assert read.alignment.key_file == str(tmp_path / "ids.key")


def test_a_folder_that_cannot_be_written_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("a file")
    with pytest.raises(StorageError, match="cannot write"):
        run(topology(tmp_path), directory=tmp_path / "run")


@pytest.mark.parametrize(
    ("text", "status", "said"),
    [
        ("info x\nerror: it broke\nsee there\n", 1, "it broke\nsee there"),
        ("error: first\nerror: last\n", 1, "last"),
        ("info working\n", -9, "it was killed by SIGKILL; its last lines in LOG:\ninfo working"),
        ("", -11, "it was killed by SIGSEGV (see LOG)"),
        ("", 70, "it ended with exit status 70 (see LOG)"),
    ],
)
def test_what_a_process_said(tmp_path: Path, text: str, status: int, said: str) -> None:
    log = tmp_path / "log.txt"
    log.write_text(text)
    assert supervisor._said(log, status).replace(str(log), "LOG") == said
