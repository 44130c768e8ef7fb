"""With raw32 and sync, a session gives the bits of the same model trained in one process."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import slstream
from slstream.party.centralised import train_centralised
from slstream.topology import Topology
from tests.integration.joined_model import train_joined

GROUPS = {"bob": "* error", "carol": "worst *", "dave": "mean s*"}


def tabular(features: int, epochs: int = 2) -> Topology:
    """Breast cancer with 1 to 3 feature parties; dropout makes randomness count."""
    base = {"model": "mlp", "args": {"hidden": [16], "out": 8, "dropout": 0.2}}
    data = {"bundled": "breast_cancer"}
    parties: dict[str, object] = {
        "alice": {
            "role": "label",
            "data": {**data, "label": "malignant", "features": ["mean *"]},
            "base": base,
        }
    }
    for name in sorted(GROUPS)[:features]:
        source = {**data, "features": [GROUPS[name]]}
        parties[name] = {"role": "feature", "data": source, "base": base}
    return Topology.from_dict(
        {
            "federation": "equality",
            "seed": 5,
            "parties": parties,
            "fuse": {"model": "mlp", "args": {"hidden": [8], "out": 1, "dropout": 0.1}},
            "loss": "bce",
            "training": {"batch_size": 100, "epochs": epochs},
            "codec": {"forward": "raw32", "backward": "raw32", "evaluation": "raw32"},
        }
    )


def image() -> Topology:
    path = Path(__file__).parents[2] / "topology" / "digits.yaml"
    raw = [f"codec.{direction}=raw32" for direction in ("forward", "backward", "evaluation")]
    return Topology.load(path, ["training.epochs=1", *raw])


def weights(directory: Path, topology: Topology) -> dict[str, dict[str, torch.Tensor]]:
    return {p.id: load_file(directory / p.id / "model.safetensors") for p in topology.parties}


def assert_equal_bits(
    found: dict[str, dict[str, torch.Tensor]], expected: dict[str, dict[str, torch.Tensor]]
) -> None:
    assert set(found) == set(expected)
    for party, tensors in expected.items():
        assert set(found[party]) == set(tensors)
        for name, tensor in tensors.items():
            assert torch.equal(found[party][name], tensor), f"{party} {name}"


@pytest.mark.parametrize(
    "case",
    [
        pytest.param("1", marks=pytest.mark.long),
        "2",
        pytest.param("3", marks=pytest.mark.long),
        "image",
    ],
)
def test_a_session_equals_the_joined_model(case: str, tmp_path: Path) -> None:
    topology = image() if case == "image" else tabular(int(case))
    slstream.run(topology, directory=tmp_path)
    assert_equal_bits(weights(tmp_path, topology), train_joined(topology))


@pytest.mark.long
def test_run_after_run_and_against_the_baseline(tmp_path: Path) -> None:
    topology = tabular(1, epochs=1)
    first = slstream.run(topology, directory=tmp_path / "first")
    second = slstream.run(topology, directory=tmp_path / "second")
    assert first.session != second.session
    assert first.weights == second.weights
    assert first.metrics == second.metrics
    baseline = train_centralised(topology, directory=tmp_path / "baseline")
    assert baseline.metrics == first.metrics
    assert_equal_bits(
        weights(tmp_path / "first", topology), weights(tmp_path / "baseline", topology)
    )


def test_another_seed_gives_other_weights(tmp_path: Path) -> None:
    topology = tabular(1, epochs=1)
    expected = train_joined(topology)
    other = Topology.from_dict({**topology.document.value, "seed": 6})
    found = train_joined(other)
    with pytest.raises(AssertionError):
        assert_equal_bits(found, expected)
