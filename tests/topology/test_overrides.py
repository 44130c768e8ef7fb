from pathlib import Path

import pytest

from slstream.errors import TopologyError
from slstream.topology import Topology
from tests.topology.documents import write


def load(folder: Path, *overrides: str) -> Topology:
    return Topology.load(write(folder), overrides)


def test_values_are_yaml_and_the_last_wins(tmp_path: Path) -> None:
    topology = load(
        tmp_path,
        "training.epochs=7",
        "training.epochs=8",
        "parties.bob.data.features=[x, 'y*']",
        "parties.bob.data.path=/data/a=b.csv",
        "optimizer.lr=1e-2",
        "training.early_stop.metric=auc",
    )
    assert topology.training.epochs == 8
    assert topology.party("bob").data.features == ("x", "y*")
    assert topology.party("bob").data.path == "/data/a=b.csv"
    assert topology.optimizer.lr == 0.01
    assert topology.training.early_stop is not None


def test_the_file_is_left_alone(tmp_path: Path) -> None:
    path = write(tmp_path)
    Topology.load(path, ["training.epochs=7"])
    assert Topology.load(path).training.epochs == 2


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training.epochs", "expected key.path=value, for instance training.epochs=3"),
        ("training..epochs=3", "expected key.path=value, for instance training.epochs=3"),
        ("seed=[1", "not valid YAML: '[1'"),
        (
            "training.epoch=3",
            'training.epoch: unknown key; did you mean "epochs"? (known: batch_size, early_stop, '
            "epochs, micro_batch_size, validation)",
        ),
        (
            "parties.bop.data.id=x",
            'parties.bop: unknown party; did you mean "bob"? (known: alice, bo',
        ),
        ("loss.name=mse", "loss is not a mapping; set loss as a whole"),
        ("training.epochs=0", "training.epochs: expected a number of at least 1, found 0"),
        (
            "training.early_stop={metric: auc, wait: 3}",
            "training.early_stop.wait: unknown key (known: metric, min_delta, patience)",
        ),
    ],
)
def test_what_is_refused_names_the_override(override: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(TopologyError) as caught:
        load(tmp_path, override)
    assert str(caught.value).startswith(f"--set {override}: {message}")
