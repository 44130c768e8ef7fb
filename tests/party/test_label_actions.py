"""What only the label party checks: joins, matches, losses."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from slstream.errors import (
    ModelError,
    ModelFailed,
    RemoteProtocolError,
    SessionAborted,
    SessionRefused,
)
from slstream.protocol.messages import Join
from tests.party.small_session import Tampering, run_all, summary_of, topology
from tests.party.test_driver import JOIN, replaced, rewritten


@pytest.mark.parametrize(
    ("changes", "error", "text"),
    [
        ({"digest": "0" * 64}, SessionRefused, "bob joined with the topology digest 0000"),
        (
            {"rows": 51},
            RemoteProtocolError,
            r"digests of bob \(topic .*, offset 1\): .* for 51 rows",
        ),
        ({"cut": [2**30, 8]}, SessionRefused, r"bob offers a cut of \[1073741824, 8\]: shape"),
        (
            {"cut": [5]},
            SessionRefused,
            "bob offers schema .* for its activation frames, which d",
        ),
        ({"schemas": {}}, SessionRefused, "bob offers no schema for its activation frames"),
    ],
)
def test_a_join_is_checked(
    changes: dict[str, Any],
    error: type[Exception],
    text: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    change = replaced(JOIN, rewritten(Join, **changes))
    Tampering(sender="bob", receiver="alice", change=change).install(monkeypatch)
    outcomes = run_all(tmp_path / "run", topology(tmp_path))
    with pytest.raises(error, match=text):
        summary_of(outcomes["alice"])
    assert isinstance(outcomes["bob"], SessionAborted)


@pytest.mark.parametrize("codec", ["raw32", "fp16", "ecsq"])
def test_training_that_diverges_says_so(tmp_path: Path, codec: str) -> None:
    chains = dict.fromkeys(("forward", "backward", "evaluation"), codec)
    optimizer = {"name": "sgd", "lr": 1e30}
    outcomes = run_all(
        tmp_path / "run", topology(tmp_path, features=2, codec=chains, optimizer=optimizer)
    )
    assert all(isinstance(outcome, SessionAborted) for outcome in outcomes.values()), outcomes
    first = min((str(outcome) for outcome in outcomes.values()), key=len)
    assert "diverged" in first
    assert "a lower learning rate may help" in first
    assert not list((tmp_path / "run").rglob("model.safetensors"))


def test_a_loss_that_is_infinite_only_at_validation_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def infinite(*_: object) -> dict[str, float]:
        return {"loss": float("inf")}

    monkeypatch.setattr("slstream.party.label_actions.validation_metrics", infinite)
    outcomes = run_all(tmp_path / "run", topology(tmp_path))
    text = "the validation loss is inf after epoch 1: training diverged"
    assert isinstance(outcomes["alice"], SessionAborted)
    assert str(outcomes["alice"]).startswith(text)
    assert text in str(outcomes["bob"])


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        (
            {"fuse": {"model": "mlp", "args": {"out": 2}}},
            r"fuse: .*\[rows\] or \[rows, 1\]|fuse.*bce",
        ),
        (
            {"fuse": {"model": "cnn", "args": {"shape": [1, 3, 3], "channels": [2], "out": 1}}},
            "fuse",
        ),
    ],
)
def test_a_fuse_model_that_does_not_fit_the_cut_or_loss(
    tmp_path: Path, changes: dict[str, Any], text: str
) -> None:
    outcomes = run_all(tmp_path / "run", topology(tmp_path, **changes))
    with pytest.raises(ModelError, match=text):
        summary_of(outcomes["alice"])
    assert isinstance(outcomes["bob"], SessionAborted)


def test_cuts_that_cannot_be_summed(tmp_path: Path) -> None:
    federation = topology(tmp_path)
    document: dict[str, Any] = dict(federation.document.value)
    bob = {**document["parties"]["bob"], "base": {"model": "mlp", "args": {"out": 4}}}
    document["parties"] = {**document["parties"], "bob": bob}
    document["fuse"] = {**document["fuse"], "combine": "sum"}
    outcomes = run_all(tmp_path / "run", type(federation).from_dict(document, tmp_path))
    text = "sum expects cuts of one shape, found alice [rows, 3], bob [rows, 4]"
    assert isinstance(outcomes["alice"], ModelError)
    assert text in str(outcomes["alice"])
    assert text in str(outcomes["bob"])


FAILING = """
import torch


class Failing(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear({inputs}, {outputs})
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        if self.calls > 3:
            raise RuntimeError("customer-of-both-0007 is odd")
        return self.layer(x)
"""


@pytest.mark.parametrize("owner", ["alice", "bob"])
def test_a_model_that_raises_is_named_and_its_text_stays(tmp_path: Path, owner: str) -> None:
    name = f"failing_{owner}"
    sizes = {"inputs": 6, "outputs": 1} if owner == "alice" else {"inputs": 2, "outputs": 3}
    (tmp_path / f"{name}.py").write_text(FAILING.format(**sizes))
    federation = topology(tmp_path)
    document: dict[str, Any] = dict(federation.document.value)
    if owner == "alice":
        document["fuse"] = {"model": f"{name}:Failing"}
    else:
        bob = {**document["parties"]["bob"], "base": {"model": f"{name}:Failing"}}
        document["parties"] = {**document["parties"], "bob": bob}
    outcomes = run_all(tmp_path / "run", type(federation).from_dict(document, tmp_path))
    part = {"alice": "fuse model of alice", "bob": "base model of bob"}[owner]
    error = outcomes[owner]
    assert isinstance(error, ModelFailed)
    assert str(error) == f"the {part} failed: RuntimeError: customer-of-both-0007 is odd"
    other = str(outcomes["bob" if owner == "alice" else "alice"])
    assert other == f"{owner} gave up: its model failed; the party itself was told how"
    found = b"".join(p.read_bytes() for p in (tmp_path / "run" / "log").rglob("*") if p.is_file())
    assert b"is odd" not in found


def test_a_schema_that_nobody_registered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("slstream.party.negotiation._REGISTRY_TIMEOUT_S", 0.2)
    schemas = {"activation": (4_000_000,), "evaluation": (5,)}
    change: Callable[[bytes], bytes] = rewritten(Join, schemas=schemas)
    Tampering(sender="bob", receiver="alice", change=replaced(JOIN, change)).install(monkeypatch)
    outcomes = run_all(tmp_path / "run", topology(tmp_path))
    with pytest.raises(SessionRefused, match=r"schema 4000000 for its activation frames: .*within"):
        summary_of(outcomes["alice"])
