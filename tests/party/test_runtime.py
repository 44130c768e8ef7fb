from __future__ import annotations

import asyncio
import logging
import os
import signal
from pathlib import Path

import pytest

from slstream.errors import (
    Interrupted,
    PeerTimeout,
    SessionAborted,
    StorageError,
    TopologyError,
    TransportBroken,
)
from slstream.frames.topics import lobby_topic, telemetry_topic
from slstream.party.feature_actions import FeatureActions
from slstream.party.runtime import PartyRuntime, run_party
from slstream.party.summary import Summary
from slstream.party.telemetry import PartyState, Progress
from slstream.protocol.messages import Message, decode_message
from slstream.topology import Topology
from slstream.transport.connect import embedded_url, open_transport
from tests.party.small_session import (
    Outcome,
    run_all,
    summary_of,
    take_part,
    topology,
)

LONG = {"batch_size": 16, "epochs": 60000, "validation": 0.25}


def lobby_of(directory: Path) -> list[Message]:
    """All that was said in the lobby."""

    async def main() -> list[Message]:
        async with await open_transport(embedded_url(directory / "log")) as transport:
            return [decode_message(r.value) for r in await transport.read(lobby_topic("small"), 0)]

    return asyncio.run(main())


def states(directory: Path, party: str) -> list[Progress]:
    """What a party has told monitors."""

    async def main() -> list[Progress]:
        async with await open_transport(embedded_url(directory / "log")) as transport:
            records = await transport.read(telemetry_topic("small", party), 0)
            return [Progress.from_json(record.value) for record in records]

    return asyncio.run(main())


def test_a_session_leaves_summaries_weights_and_events(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "slstream")
    outcomes = run_all(tmp_path / "run", topology(tmp_path, features=2))
    summaries = {name: summary_of(outcome) for name, outcome in outcomes.items()}
    for name, summary in summaries.items():
        folder = tmp_path / "run" / name
        assert Summary.from_json((folder / "summary.json").read_text()) == summary
        assert (folder / "model.safetensors").is_file()
        assert summary.outcome == "finished"
        assert summary.rows == {"matched": 48, "train": 36, "validation": 12}
        assert summary.party_rows == {"alice": 51, "bob": 52, "carol": 53}
        assert summary.weights == summaries["alice"].weights
        assert summary.metrics == summaries["alice"].metrics
        assert set(summary.time) == {name}
        assert states(tmp_path / "run", name)[-1].state is PartyState.FINISHED
    messages = {record.getMessage() for record in caplog.records}
    assert {
        "log opened",
        "session announced",
        "session joined",
        "rows matched",
        "epoch done",
        "session over",
    } <= messages
    epochs = [vars(r) for r in caplog.records if r.getMessage() == "epoch done"]
    assert len(epochs) == 2 * 3
    assert epochs[0]["validation_auc"] == summaries["alice"].history[0]["auc"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_process_and_leaves_the_session_open(
    tmp_path: Path, number: signal.Signals
) -> None:
    federation = topology(tmp_path, training=LONG, timeouts={"peer_s": 4})
    before = signal.getsignal(number)

    def interrupt(progress: Progress) -> None:
        if progress.state is PartyState.TRAINING and progress.epoch > 1:
            os.kill(os.getpid(), number)

    async def main() -> list[Outcome]:
        # The one that handles signals is started last: a loop has one handler for each.
        bob = asyncio.create_task(take_part("bob", federation, tmp_path / "run"))
        await asyncio.sleep(0.1)
        alice = asyncio.create_task(take_part("alice", federation, tmp_path / "run", interrupt))
        return [await alice, await bob]

    alice, bob = asyncio.run(asyncio.wait_for(main(), 40))
    assert isinstance(alice, Interrupted)
    assert str(alice) == (
        f"alice was interrupted by {number.name}; its session stays open and goes on when it is "
        "started again"
    )
    assert isinstance(bob, PeerTimeout), "nobody has told it anything"
    assert str(bob).startswith("no sign of alice for 4 s while waiting for alice's ")
    assert not any(m.type == "close" for m in lobby_of(tmp_path / "run"))
    last = states(tmp_path / "run", "alice")[-1]
    assert last.state is PartyState.INTERRUPTED
    assert signal.getsignal(number) is before
    assert not (tmp_path / "run" / "alice" / "summary.json").exists()


def test_an_unforeseen_error_is_told_without_its_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError("customer-of-both-0007 has no income")

    monkeypatch.setattr(FeatureActions, "_forward", fail)
    outcomes = run_all(tmp_path / "run", topology(tmp_path))
    assert isinstance(outcomes["bob"], ZeroDivisionError)
    assert isinstance(outcomes["alice"], SessionAborted)
    assert str(outcomes["alice"]) == "bob gave up: it failed unexpectedly (ZeroDivisionError)"
    assert states(tmp_path / "run", "bob")[-1].message == "ZeroDivisionError"


def test_what_a_listener_raises_reaches_the_caller_as_it_is(tmp_path: Path) -> None:
    federation = topology(tmp_path)

    def listener(progress: Progress) -> None:
        raise KeyError(f"mine at {progress.state}")

    with pytest.raises(KeyError, match="mine at opening"):
        asyncio.run(PartyRuntime("bob", federation, tmp_path / "run", listener).run())


def test_a_party_that_nobody_knows_is_named(tmp_path: Path) -> None:
    with pytest.raises(TopologyError, match='unknown party "bop"'):
        run_party("bop", topology(tmp_path), directory=tmp_path / "run")


def test_an_unknown_codec_is_told_before_anything_starts(tmp_path: Path) -> None:
    federation = topology(tmp_path, codec={"forward": "zipp"})
    with pytest.raises(TopologyError, match=r"codec\.forward.*zipp"):
        run_party("bob", federation, directory=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("path", ["run", "run/bob/summary.json"])
def test_a_place_that_cannot_be_written_is_a_storage_error(tmp_path: Path, path: str) -> None:
    federation = topology(tmp_path)
    if path == "run":
        (tmp_path / "run").write_text("a file")
        outcomes: dict[str, Outcome] = {
            "bob": asyncio.run(take_part("bob", federation, tmp_path / "run"))
        }
    else:
        (tmp_path / path).mkdir(parents=True)
        outcomes = run_all(tmp_path / "run", federation)
    assert isinstance(outcomes["bob"], StorageError)
    assert str(tmp_path / path) in str(outcomes["bob"])


def test_a_failing_fsync_stops_the_party(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    federation = topology(tmp_path, durability="step", training=LONG)
    calls = 0

    def failing(descriptor: int) -> None:
        nonlocal calls
        calls += 1
        if calls > 60:
            raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fdatasync", failing)  # of the log; files of weights use fsync
    outcomes = run_all(tmp_path / "run", federation)
    errors = list(outcomes.values())
    assert any(isinstance(error, TransportBroken) for error in errors), errors
    assert any("Input/output error" in str(error) for error in errors), errors
    assert all(isinstance(error, TransportBroken | SessionAborted) for error in errors), errors


def test_it_runs_in_a_thread(tmp_path: Path) -> None:
    federation = topology(tmp_path)

    async def main() -> list[Summary]:
        return await asyncio.gather(
            *(
                asyncio.to_thread(run_party, name, federation, directory=tmp_path / "run")
                for name in ("alice", "bob")
            )
        )

    assert [summary.outcome for summary in asyncio.run(main())] == ["finished"] * 2


def test_peers_need_not_agree_on_local_facts(tmp_path: Path) -> None:
    federation = topology(tmp_path)
    local: Topology = topology(tmp_path, durability="step", timeouts={"peer_s": 19})
    outcomes = run_all(tmp_path / "run", {"bob": local, "alice": federation})
    assert summary_of(outcomes["bob"]).outcome == "finished"


def test_a_fault_in_a_callback_ends_the_party(tmp_path: Path) -> None:
    """asyncio only prints it; a party must neither go on with half of its parts, nor wait."""

    def fail() -> None:
        raise ZeroDivisionError("a bug")

    async def main() -> None:
        runtime = PartyRuntime("bob", topology(tmp_path), tmp_path / "run", lambda progress: None)
        asyncio.get_running_loop().call_later(0.5, fail)
        async with asyncio.timeout(20):
            await runtime.run()

    with pytest.raises(ZeroDivisionError, match="a bug"):
        asyncio.run(main())
    assert states(tmp_path / "run", "bob")[-1].state is PartyState.FAILED
