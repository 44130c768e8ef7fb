"""What the schedules train: each a function of its topology, and the exact ones alike."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from slstream.party.centralised import train_centralised
from slstream.party.summary import Summary
from tests.party.small_session import RAW, compute_alone, run_all, summary_of, topology

TRAINING = {"batch_size": 18, "epochs": 3, "validation": 0.25}


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    compute_alone(monkeypatch)


def train(folder: Path, run: str, **changes: Any) -> dict[str, Summary]:
    federation = topology(folder, features=2, **changes)
    return {name: summary_of(o) for name, o in run_all(folder / run, federation).items()}


def frames(summaries: dict[str, Summary], kind: str) -> int:
    return sum(t.frames for s in summaries.values() for t in s.traffic if t.kind == kind)


@pytest.mark.parametrize("codec", [RAW, {"backward": "mask"}], ids=["raw", "mask"])
def test_microbatches_give_the_weights_of_sync_with_the_same_slices(
    tmp_path: Path, codec: dict[str, str]
) -> None:
    training = {**TRAINING, "micro_batch_size": 5}
    changes = {"training": training, "codec": codec}
    one_by_one = train(tmp_path, "one", **changes)
    under_way = train(tmp_path, "two", schedule="microbatch", **changes)
    assert under_way["alice"].weights == one_by_one["alice"].weights
    assert under_way["alice"].history == one_by_one["alice"].history
    for kind in ("activation", "gradient"):
        assert frames(under_way, kind) == 2 * 3 * (4 + 4)
    whole = train(tmp_path, "three", training=TRAINING, codec=codec)
    assert whole["alice"].weights != one_by_one["alice"].weights
    losses = [each["alice"].metrics["loss"] for each in (whole, one_by_one)]
    assert losses[0] == pytest.approx(losses[1], 0.05)


def test_a_slice_for_the_whole_batch_is_training_in_one_process(tmp_path: Path) -> None:
    training = {**TRAINING, "micro_batch_size": 18}
    summaries = train(tmp_path, "run", training=training, schedule="microbatch")
    federation = topology(tmp_path, features=2, training=TRAINING)
    train_centralised(federation, directory=tmp_path / "one")
    for name in ("alice", "bob", "carol"):
        weights = [tmp_path / folder / name / "model.safetensors" for folder in ("run", "one")]
        assert weights[0].read_bytes() == weights[1].read_bytes()
    assert summaries["alice"].epochs == 3


@pytest.mark.parametrize(
    "schedule",
    [
        {"name": "pipeline", "pipeline_size": 2},
        {"name": "pipeline", "pipeline_size": 64},
        {"name": "local", "base_steps": 2},
        {"name": "local", "fuse_steps": 2},
        {"name": "local", "exchange_every": 2},
    ],
    ids=["pipeline-2", "pipeline-64", "base-steps", "fuse-steps", "exchange-every"],
)
def test_what_is_not_exact_is_the_same_each_time_and_learns(
    tmp_path: Path, schedule: dict[str, Any]
) -> None:
    training = {"batch_size": 9, "epochs": 6, "validation": 0.25}
    changes = {"training": training, "optimizer": {"name": "adam", "lr": 0.01}}
    one, two = (train(tmp_path, run, schedule=schedule, **changes) for run in ("one", "two"))
    assert one["alice"].weights == two["alice"].weights
    assert one["bob"].weights == one["alice"].weights
    exact = train(tmp_path, "exact", **changes)
    assert one["alice"].weights != exact["alice"].weights
    losses = [metrics["loss"] for metrics in one["alice"].history]
    assert losses[-1] < losses[0]
    for kind in ("activation", "gradient"):
        steps = 4 + 5 * 2 if "exchange_every" in schedule else 6 * 4
        assert frames(one, kind) == 2 * steps
    assert one["alice"].steps == 6 * 4
