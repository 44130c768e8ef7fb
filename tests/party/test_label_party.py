from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from slstream.errors import DataError, SessionAborted, TableError, TopologyError
from slstream.frames.topics import lobby_topic
from slstream.party.lobby import Lobby
from slstream.protocol.messages import Announce, Close, Message, Resume, decode_message
from slstream.transport.connect import embedded_url, open_transport
from tests.party.small_session import Outcome, run_all, summary_of, take_part, topology

LOBBY = lobby_topic("small")


def lobby(directory: Path) -> list[Message]:
    """All that was said in the lobby."""

    async def main() -> list[Message]:
        async with await open_transport(embedded_url(directory / "log")) as transport:
            return [decode_message(r.value) for r in await transport.read(LOBBY, 0)]

    return asyncio.run(main())


def test_a_session_is_announced_and_closed(tmp_path: Path) -> None:
    federation = topology(tmp_path)
    outcomes = run_all(tmp_path / "run", federation)
    announce, close = lobby(tmp_path / "run")
    assert isinstance(announce, Announce)
    assert isinstance(close, Close)
    assert announce.session == close.session == summary_of(outcomes["alice"]).session
    assert announce.digest == federation.digest()
    assert announce.agreed == federation.agreed()
    assert len(announce.id_key) == 32
    assert (close.outcome, close.reason) == ("finished", "")


def test_each_session_has_a_key_of_its_own(tmp_path: Path) -> None:
    for _ in range(2):
        run_all(tmp_path / "run", topology(tmp_path))
    keys = [m.id_key for m in lobby(tmp_path / "run") if isinstance(m, Announce)]
    assert len(set(keys)) == 2


def test_early_stop_ends_all_parties_alike(tmp_path: Path) -> None:
    stop = {"metric": "auc", "patience": 1, "min_delta": 1.0}  # nothing is ever good enough
    training = {"batch_size": 16, "epochs": 9, "validation": 0.25, "early_stop": stop}
    outcomes = run_all(tmp_path / "run", topology(tmp_path, features=2, training=training))
    for outcome in outcomes.values():
        summary = summary_of(outcome)
        assert (summary.outcome, summary.epochs, summary.steps) == ("stopped early", 2, 6)
        assert len(summary.history) == 2
    close = lobby(tmp_path / "run")[-1]
    assert isinstance(close, Close)
    assert close.outcome == "stopped early"
    assert close.reason.startswith("auc has not improved on 0.")


def test_without_validation_rows_all_are_for_training(tmp_path: Path) -> None:
    training = {"batch_size": 16, "epochs": 2, "validation": 0}
    summary = summary_of(run_all(tmp_path / "run", topology(tmp_path, training=training))["bob"])
    assert summary.rows == {"matched": 48, "train": 48, "validation": 0}
    assert summary.metrics == {}
    assert {entry.kind for entry in summary.traffic} == {"activation", "control"}


def test_a_label_party_without_features(tmp_path: Path) -> None:
    federation = topology(tmp_path, features=2)
    document: dict[str, Any] = dict(federation.document.value)
    alice = {"role": "label", "data": {"path": "alice.csv", "label": "y"}}
    document["parties"] = {**document["parties"], "alice": alice}
    labels_only = type(federation).from_dict(document, tmp_path)
    outcomes = run_all(tmp_path / "run", labels_only)
    assert summary_of(outcomes["alice"]).epochs == 2
    assert summary_of(outcomes["carol"]).weights.keys() == {"alice", "bob", "carol"}


MODULES = '''
import torch


class Pair(torch.nn.Module):
    """Takes the cuts of four parties as arguments."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(width, 1)

    def forward(self, alice, bob, carol, dave):
        return self.layer(torch.cat([alice * bob, carol - dave], dim=1))
'''


@pytest.mark.parametrize("combine", ["concat", "sum", "mean", "list"])
def test_three_feature_parties_and_every_way_to_combine(tmp_path: Path, combine: str) -> None:
    (tmp_path / f"small_{combine}.py").write_text(MODULES)
    fuse: dict[str, Any] = {"combine": combine, "model": "linear", "args": {"out": 1}}
    if combine == "list":
        fuse |= {"model": f"small_{combine}:Pair", "args": {"width": 6}}
    outcomes = run_all(tmp_path / "run", topology(tmp_path, features=3, fuse=fuse))
    weights = [summary_of(outcome).weights for outcome in outcomes.values()]
    assert weights == [weights[0]] * 4
    assert set(weights[0]) == {"alice", "bob", "carol", "dave"}


def test_a_bad_table_is_told_before_a_session_is_announced(tmp_path: Path) -> None:
    federation = topology(tmp_path)
    table = tmp_path / "alice.csv"
    table.write_text(table.read_text().replace("id,x,z,y", "id,x,z,label"))
    error = run_all(tmp_path / "run", {"alice": federation})["alice"]
    assert isinstance(error, TableError)
    assert "no column 'y'" in str(error)
    assert lobby(tmp_path / "run") == []


def test_a_failed_session_is_closed_with_its_reason(tmp_path: Path) -> None:
    alignment = {"min_rows": 49}
    outcomes = run_all(tmp_path / "run", topology(tmp_path, features=2, alignment=alignment))
    text = (
        "expected at least 49 rows that all parties have (alignment.min_rows), found 48: "
        "alice has 51, bob has 52, carol has 53"
    )
    assert isinstance(outcomes["alice"], DataError)
    assert text in str(outcomes["alice"])
    for name in ("bob", "carol"):
        assert isinstance(outcomes[name], SessionAborted)
        assert f"alice gave up: {text}" in str(outcomes[name])
    close = lobby(tmp_path / "run")[-1]
    assert isinstance(close, Close)
    assert close.outcome == "failed"
    assert close.reason.startswith(text)


def test_a_session_of_another_topology_is_given_up_only_when_asked(tmp_path: Path) -> None:
    federation = topology(tmp_path)

    async def killed() -> None:
        """Announce, and end without a word, as a killed process does."""
        log = embedded_url(tmp_path / "run" / "log")
        async with await open_transport(log) as transport:
            earlier = Lobby(transport, "small", "alice")
            await earlier.open()
            await earlier.tell(
                Announce(
                    session="stale-1",
                    federation="small",
                    label_party="alice",
                    agreed=federation.agreed(),
                    digest="0" * 64,
                    id_key="0" * 32,
                    environment={},
                    incarnation=1,
                )
            )

    asyncio.run(killed())
    refused = asyncio.run(take_part("alice", federation, tmp_path / "run"))
    assert isinstance(refused, TopologyError)
    assert "session stale-1 is unfinished and was begun with another topology" in str(refused)
    assert len(lobby(tmp_path / "run")) == 1

    outcomes = run_all(tmp_path / "run", federation, begin_new=True)
    assert summary_of(outcomes["bob"]).session == summary_of(outcomes["alice"]).session
    close = lobby(tmp_path / "run")[2]
    assert isinstance(close, Close)
    assert (close.session, close.outcome) == ("stale-1", "abandoned")
    assert close.reason == "its label party started anew"


def test_a_session_is_gone_on_with_that_was_interrupted_while_it_was_announced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    federation = topology(tmp_path)
    tell = Lobby.tell

    async def main() -> Outcome | None:
        async def slowly(self: Lobby, message: Announce | Resume | Close) -> None:
            await tell(self, message)
            running.cancel()
            await asyncio.sleep(10)

        with monkeypatch.context() as patch:
            patch.setattr(Lobby, "tell", slowly)
            running = asyncio.create_task(take_part("alice", federation, tmp_path / "run"))
            try:
                return await running
            except asyncio.CancelledError:
                return None

    assert asyncio.run(asyncio.wait_for(main(), 20)) is None
    (announced,) = lobby(tmp_path / "run")
    assert isinstance(announced, Announce)
    outcomes = run_all(tmp_path / "run", federation)
    sessions = {summary_of(outcome).session for outcome in outcomes.values()}
    assert sessions == {announced.session}
    assert [(m.type, getattr(m, "incarnation", 0)) for m in lobby(tmp_path / "run")] == [
        ("announce", 1),
        ("resume", 2),
        ("close", 2),
    ]
