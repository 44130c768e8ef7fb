from __future__ import annotations

from concurrent.futures import Future
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from safetensors.torch import load_file

from slstream.errors import SessionAborted, TableError
from slstream.party.centralised import train_centralised
from tests.party.small_session import topology


def test_it_trains_and_writes_every_part(tmp_path: Path) -> None:
    federation = topology(tmp_path, features=2)
    baseline = train_centralised(federation, directory=tmp_path / "one")
    assert set(baseline.metrics) == {"loss", "auc", "accuracy"}
    assert baseline.total_s > 0
    for name, prefixes in (("alice", {"base", "fuse"}), ("bob", {"base"}), ("carol", {"base"})):
        found = load_file(tmp_path / "one" / name / "model.safetensors")
        assert {key.partition(".")[0] for key in found} == prefixes
    assert train_centralised(federation).metrics == baseline.metrics


def test_it_stops_early_as_a_session_does(tmp_path: Path) -> None:
    stop = {"metric": "auc", "patience": 1, "min_delta": 1.0}
    training = {"batch_size": 16, "validation": 0.25}
    short = train_centralised(topology(tmp_path, training={**training, "epochs": 2}))
    stopped = topology(tmp_path, training={**training, "epochs": 500, "early_stop": stop})
    assert train_centralised(stopped).metrics == short.metrics


def test_training_that_diverges_says_so(tmp_path: Path) -> None:
    with pytest.raises(SessionAborted, match=r"training loss is (nan|inf) in epoch 1.*diverged"):
        train_centralised(topology(tmp_path, optimizer={"name": "sgd", "lr": 1e30}))


def test_data_that_is_not_at_hand(tmp_path: Path) -> None:
    federation = topology(tmp_path)
    (tmp_path / "bob.csv").unlink()
    with pytest.raises(TableError, match=r"bob\.csv"):
        train_centralised(federation)


def test_it_ends_at_once_when_interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    federation = topology(tmp_path, training={"batch_size": 2, "epochs": 60000, "validation": 0})

    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Future, "result", interrupted)
    start = monotonic()
    with pytest.raises(KeyboardInterrupt):
        train_centralised(federation)
    assert monotonic() - start < 20
