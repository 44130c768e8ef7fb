"""Parties that are killed again and again learn what undisturbed ones learn."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.integration.processes import Program
from tests.party.small_session import document, write_tables

ROWS = 134  # 100 of them to train with: 10 steps an epoch

# Dropout, Adam, and the codecs of the defaults, which round at random: all that can be forgotten.
BASE = {"model": "mlp", "args": {"hidden": [8], "dropout": 0.2, "out": 4, "out_activation": "relu"}}
FUSE = {"model": "mlp", "args": {"hidden": [8], "dropout": 0.2, "out": 1}}

FORGETFUL = """\
import torch
from torch import nn


class Model(nn.Module):
    \"\"\"Counts its batches where no checkpoint looks.\"\"\"

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(8, 1)
        self.batches = 0

    def forward(self, cut):
        self.batches += 1
        return self.layer(cut) * (1 + self.batches / 1000)
"""


def write_federation(
    folder: Path, *, steps: int, training: dict[str, int] | None = None, **changes: Any
) -> Path:
    write_tables(folder, ("bob",), common=ROWS)
    topology = document(
        1,
        optimizer={"name": "adam", "lr": 0.003},
        training={"batch_size": 10, "epochs": steps // 10, "validation": 0.25},
        checkpoints={"every_steps": 4},
        timeouts={"peer_s": 120},
        **{"fuse": FUSE, **changes},
    )
    if "codec" not in changes:
        del topology["codec"]
    topology["training"] |= training or {}
    for party in topology["parties"].values():
        party["base"] = BASE
    path = folder / "small.yaml"
    path.write_text(json.dumps(topology))
    return path


def soak(folder: Path, topology: Path, *, kills: int, seed: int) -> tuple[int, dict[str, Any]]:
    """Exit status and results, by name."""
    arguments = ["--kills", str(kills), "--seed", str(seed), "--dir", str(folder / "soak")]
    program = Program(folder, "soak", topology, *arguments, "--json", "--quiet")
    try:
        status = program.end(timeout_s=1800)
    finally:
        program.process.kill()
        program.process.wait()
    lines = program.text.splitlines()
    assert lines, f"exit status {status}, and not a word"
    assert lines[-1].startswith("{"), program.text
    results = {result["name"]: result for result in json.loads(lines[-1])["results"]}
    return status, {name: result["value"] for name, result in results.items()}


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("kills", "steps"), [(2, 100), pytest.param(6, 200, marks=pytest.mark.long)]
)
def test_a_few_kills_change_nothing(kills: int, steps: int, tmp_path: Path) -> None:
    topology = write_federation(tmp_path, steps=steps)
    status, found = soak(tmp_path, topology, kills=kills, seed=1)
    assert status == 0, found
    assert (found["kills"], found["steps"], found["training_frames"]) == (kills, steps, 2 * steps)
    assert found["kills_all"] >= (1 if kills == 6 else 0)
    assert found["restarts"] == found["kills"] + found["kills_all"]
    assert (found["weights_equal"], found["divergences"]) == (2, 0)


@pytest.mark.long
@pytest.mark.timeout(600)
def test_a_party_that_forgets_is_found_out(tmp_path: Path) -> None:
    """The negative control: what a checkpoint does not hold, a kill loses."""
    (tmp_path / "forgetful.py").write_text(FORGETFUL)
    topology = write_federation(tmp_path, steps=30, fuse={"model": "forgetful:Model"})
    status, found = soak(tmp_path, topology, kills=2, seed=1)
    assert status == 1
    assert found["kills"] == 2
    assert found["weights_equal"] == 0
    assert found["frames_changed"] > 0


@pytest.mark.long
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_twenty_kills_change_nothing(seed: int, tmp_path: Path) -> None:
    topology = write_federation(tmp_path, steps=800)
    status, found = soak(tmp_path, topology, kills=20, seed=seed)
    assert status == 0, found
    assert (found["kills"], found["steps"], found["training_frames"]) == (20, 800, 1600)
    assert min(found["kills_one"], found["kills_all"], found["kills_in_checkpoint_write"]) >= 1
    assert found["restarts"] == found["kills"] + found["kills_all"]


MASKED = {"backward": "mask"}
STATEFUL = {"forward": "delta", "backward": "klt", "evaluation": "delta"}


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("frames", "changes"),
    [
        (1600, {"schedule": "microbatch", "training": {"micro_batch_size": 5}, "codec": MASKED}),
        (800, {"schedule": {"name": "pipeline", "pipeline_size": 4}, "codec": MASKED}),
        (
            410,
            {"schedule": {"name": "local", "base_steps": 2, "fuse_steps": 2, "exchange_every": 2}},
        ),
        (800, {"codec": STATEFUL}),
    ],
    ids=["microbatch", "pipeline", "local", "stateful"],
)
def test_ten_kills_change_nothing_under_any_schedule(
    frames: int, changes: dict[str, Any], tmp_path: Path
) -> None:
    topology = write_federation(tmp_path, steps=400, **changes)
    status, found = soak(tmp_path, topology, kills=10, seed=5)
    assert status == 0, found
    assert (found["kills"], found["training_frames"]) == (10, frames)
    assert (found["weights_equal"], found["divergences"]) == (2, 0)
