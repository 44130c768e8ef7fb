from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest

import slstream
from slstream import supervisor
from slstream.errors import Interrupted, SessionAborted, StorageError
from slstream.frames.topics import lobby_topic
from slstream.party.party_files import PartyFiles
from slstream.party.telemetry import PartyState, Progress
from slstream.protocol.messages import Announce, Message, decode_message
from slstream.supervisor import run, write_topology
from slstream.topology import Topology
from slstream.transport.connect import embedded_url, open_transport
from tests.integration.processes import (
    process_of,
    processes_of,
    whole_run,
    write_federation,
)
from tests.party.small_session import document, topology
from tests.party.states import summary_of_session

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


def kill_while_training(directory: Path, name: str, times: int) -> Callable[[Progress], None]:
    """Kills a party with SIGKILL, once in each of its processes that trains."""
    killed: set[int] = set()

    def listener(progress: Progress) -> None:
        if progress.party != name or progress.state is not PartyState.TRAINING:
            return
        process = process_of(directory, name)
        if process not in killed and len(killed) < times:
            killed.add(process)
            os.kill(process, signal.SIGKILL)

    return listener


def sessions(directory: Path) -> list[Message]:
    """All that was said in the lobby."""

    async def main() -> list[Message]:
        async with await open_transport(embedded_url(directory / "log")) as transport:
            records = await transport.read(lobby_topic("small"), 0)
            return [decode_message(record.value) for record in records]

    return asyncio.run(main())


FEW = {"batch_size": 16, "epochs": 100, "validation": 0.25}


@pytest.mark.long
def test_a_party_that_is_killed_is_started_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "slstream.supervisor")
    directory = tmp_path / "run"
    federation = topology(tmp_path, training=FEW)
    listener = kill_while_training(directory, "bob", 2)
    summary = run(federation, directory=directory, on_progress=listener, restarts=2)
    assert summary.outcome == "finished"
    again = [vars(r) for r in caplog.records if "started again" in r.getMessage()]
    assert [(r["party"], r["restarts_left"]) for r in again] == [("bob", 1), ("bob", 0)]
    assert [message.type for message in sessions(directory)] == ["announce", "close"]
    # The log of a process does not take away what the one before it said.
    text = (directory / "bob" / "log.txt").read_text()
    assert text.count("incarnation claimed") == 3


@pytest.mark.long
def test_a_party_that_is_killed_too_often_is_named_with_the_signal(tmp_path: Path) -> None:
    directory = tmp_path / "run"
    federation = topology(tmp_path, training=LONG)
    with pytest.raises(SessionAborted) as caught:
        run(
            federation,
            directory=directory,
            on_progress=kill_while_training(directory, "bob", 9),
            restarts=1,
        )
    assert str(caught.value).startswith("bob: it was killed by SIGKILL; its last lines in ")
    # The others were ended by the supervisor, which is no failure of theirs.
    assert "alice: it" not in str(caught.value)
    assert processes_of(directory) == []
    text = (directory / "bob" / "log.txt").read_text()
    assert text.count("incarnation claimed") == 2
    assert [message.type for message in sessions(directory)] == ["announce"]


@pytest.mark.long
def test_an_interrupted_run_goes_on_when_it_is_called_again(tmp_path: Path) -> None:
    directory, federation = tmp_path / "run", topology(tmp_path, training=FEW)
    with pytest.raises(SessionAborted):
        run(
            federation,
            directory=directory,
            on_progress=kill_while_training(directory, "alice", 1),
            restarts=0,
        )
    (announced,) = sessions(directory)
    summary = run(federation, directory=directory)
    assert isinstance(announced, Announce)
    assert summary.session == announced.session
    assert [message.type for message in sessions(directory)] == ["announce", "resume", "close"]


class Ended:
    """A process that has ended."""

    def __init__(self, returncode: int | None) -> None:
        self.returncode = returncode


@pytest.mark.parametrize(
    ("status", "finished", "chosen"),
    [
        (-signal.SIGKILL, False, True),
        (-signal.SIGSEGV, False, True),
        (-signal.SIGKILL, True, False),  # it was killed after it had written its summary
        (1, False, False),
        (130, False, False),
        (0, True, False),
        (None, False, False),
    ],
)
def test_only_who_was_killed_before_it_had_finished_is_started_again(
    tmp_path: Path, status: int | None, finished: bool, chosen: bool
) -> None:
    inner = supervisor._Supervisor(topology(tmp_path), tmp_path / "run", lambda event: None, 2)
    inner._finished_before = {"alice": None, "bob": None}
    inner._processes = cast(
        "dict[str, asyncio.subprocess.Process]", {"alice": Ended(None), "bob": Ended(status)}
    )
    if finished:
        files = PartyFiles(tmp_path / "run" / "bob", federation="small", party="bob")
        files.save_summary(summary_of_session("s1"))
    assert inner._to_restart() == (["bob"] if chosen else [])
    for _ in range(3):
        inner._to_restart()
    assert inner._restarts == {"alice": 2, "bob": 0 if chosen else 2}
    assert inner._to_restart() == []


def test_what_the_failing_party_said_comes_first(tmp_path: Path) -> None:
    federation = topology(tmp_path)
    table = tmp_path / "bob.csv"
    table.write_text(table.read_text().replace("id,x,z,y", "id,x,zz,y"))
    with pytest.raises(SessionAborted) as caught:
        run(federation, directory=tmp_path / "run")
    lines = str(caught.value).splitlines()
    assert lines[0].startswith("bob: ")
    assert "no column 'z'" in lines[0]
    # Unless bob found it before alice had announced a session.
    assert all(
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

    inner = supervisor._Supervisor(
        topology(tmp_path, training=LONG), tmp_path / "run", listener, restarts=0
    )
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
    assert read.modules == federation.modules == tmp_path


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
        ("", -35, "it was killed by signal 35 (see LOG)"),
        ("", 70, "it ended with exit status 70 (see LOG)"),
    ],
)
def test_what_a_process_said(tmp_path: Path, text: str, status: int, said: str) -> None:
    log = tmp_path / "log.txt"
    log.write_text(text)
    assert supervisor._said(log, status).replace(str(log), "LOG") == said
