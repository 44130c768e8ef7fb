"""Sessions whose codecs change by epoch, and by tensor."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from slstream.party.centralised import train_centralised
from slstream.party.tensor_coder import TensorCoder
from slstream.topology import Topology
from tests.party.small_session import (
    compute_alone,
    document,
    run_all,
    summary_of,
    topology,
    write_tables,
)


def test_a_warm_up_epoch_has_a_codec_of_its_own(tmp_path: Path) -> None:
    chains = {
        "forward": "raw32",
        "backward": "raw32",
        "evaluation": "raw32",
        "rules": [{"last_epoch": 1, "forward": "fp16", "backward": ["bf16", "zstd"]}],
    }
    federation = topology(tmp_path, codec=chains)
    outcomes = {name: summary_of(o) for name, o in run_all(tmp_path / "run", federation).items()}
    frames = {
        (traffic.kind, traffic.codec): traffic.frames
        for summary in outcomes.values()
        for traffic in summary.traffic
        if traffic.kind != "control"
    }
    summary = outcomes["alice"]
    steps, epochs = summary.steps // summary.epochs, summary.epochs
    assert frames == {
        ("activation", "fp16"): steps,
        ("activation", "raw32"): steps * (epochs - 1),
        ("gradient", "bf16+zstd"): steps,
        ("gradient", "raw32"): steps * (epochs - 1),
        ("evaluation", "raw32"): frames["evaluation", "raw32"],
    }


TWO = """
from torch import nn

class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.wide, self.embedding = nn.Linear(2, 2), nn.Linear(2, 3)
    def forward(self, x):
        return {"embedding": self.embedding(x).relu(), "wide": self.wide(x)}
"""


@pytest.fixture
def two_tensors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """A topology whose feature party's model returns two tensors."""
    compute_alone(monkeypatch)
    (tmp_path / "two.py").write_text(TWO)
    write_tables(tmp_path)
    federation = document()
    tensors = [{"name": "wide", "size": 2}, {"name": "embedding", "size": 3}]
    federation["parties"]["bob"]["base"] = {"model": "two:Two", "tensors": tensors}
    path = list(sys.path)
    yield federation
    sys.path[:] = path
    sys.modules.pop("two", None)


def bits(folder: Path) -> dict[str, bytes]:
    return {n: (folder / n / "model.safetensors").read_bytes() for n in ("alice", "bob")}


@pytest.mark.parametrize("schedule", ["sync", {"name": "pipeline", "pipeline_size": 2}])
def test_two_tensors_of_a_cut_train_as_in_one_process(
    tmp_path: Path, two_tensors: dict[str, Any], schedule: str | dict[str, Any]
) -> None:
    federation = Topology.from_dict({**two_tensors, "schedule": schedule}, tmp_path)
    chains = {"forward": ["raw32", "zstd_shuffled"], "backward": ["raw32", "lz4"]}
    rules = [{"party": "bob", "tensor": "wide", **chains}]
    own = {**two_tensors, "codec": {**two_tensors["codec"], "rules": rules}, "schedule": schedule}
    summaries = (
        run_all(tmp_path / "one", federation),
        run_all(tmp_path / "two", Topology.from_dict(own, tmp_path)),
    )
    found = {t.codec for o in summaries[1].values() for t in summary_of(o).traffic}
    assert "split(wide=raw32+zstd_shuffled,embedding=raw32)" in found
    assert "split(wide=raw32+lz4,embedding=raw32)" in found
    assert bits(tmp_path / "two") == bits(tmp_path / "one")
    if schedule == "sync":
        train_centralised(federation, directory=tmp_path / "alone")
        assert bits(tmp_path / "alone") == bits(tmp_path / "one")


def test_a_lossy_codec_of_one_tensor_leaves_the_other_exact(
    tmp_path: Path, two_tensors: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    rules = [{"party": "bob", "tensor": "embedding", "forward": "delta", "backward": "mask"}]
    codec = {**two_tensors["codec"], "rules": rules}
    crossed: dict[str, list[Any]] = {}
    original = TensorCoder.__init__

    def watched(self: TensorCoder, *args: Any, **named: Any) -> None:
        named["on_tensor"] = lambda name, place, tensor: crossed.setdefault(name, []).append(tensor)
        original(self, *args, **named)

    monkeypatch.setattr(TensorCoder, "__init__", watched)
    outcomes = run_all(
        tmp_path / "run", Topology.from_dict({**two_tensors, "codec": codec}, tmp_path)
    )
    assert summary_of(outcomes["alice"]).metrics["auc"] > 0.6
    for kind, link in (("activation", "bob-to-alice"), ("gradient", "alice-to-bob")):
        sent, came = (crossed[f"{kind}.{link}.{end}"] for end in ("computed", "decoded"))
        assert len(sent) == len(came) > 2
        for before, after in zip(sent, came, strict=True):
            assert np.array_equal(before[:, :2], after[:, :2])
        assert any(not np.array_equal(a, b) for a, b in zip(sent, came, strict=True))
