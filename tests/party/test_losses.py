from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from slstream.errors import ModelError
from slstream.party.losses import build_loss, check_output

BINARY = np.array([0, 1], dtype=np.float32)
CLASSES = np.array([0, 4, 2], dtype=np.int64)


@pytest.mark.parametrize(
    ("loss", "kind"),
    [("bce", nn.BCEWithLogitsLoss), ("cross_entropy", nn.CrossEntropyLoss), ("mse", nn.MSELoss)],
)
def test_built_in_losses(loss: str, kind: type[nn.Module], tmp_path: Path) -> None:
    assert isinstance(build_loss(loss, tmp_path, "t.yaml:1"), kind)


def test_a_loss_of_the_users_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "own_losses.py").write_text(
        "from torch import nn\nclass Own(nn.L1Loss): pass\nclass Bad: pass\n"
        "class Needs(nn.Module):\n    def __init__(self, x): pass\n"
    )
    loss = build_loss("own_losses:Own", tmp_path, "t.yaml:1")
    assert loss(torch.zeros(2), torch.ones(2)) == 1
    with pytest.raises(ModelError) as caught:
        build_loss("own_losses:Bad", tmp_path, "t.yaml:1: loss")
    assert str(caught.value) == (
        "t.yaml:1: loss: own_losses:Bad: expected a class of torch.nn.Module, found Bad"
    )
    with pytest.raises(ModelError, match=r"^t.yaml:1: loss: cannot build own_losses:Needs\(\): "):
        build_loss("own_losses:Needs", tmp_path, "t.yaml:1: loss")


@pytest.mark.parametrize(
    ("loss", "shape"),
    [
        ("bce", (2,)),
        ("bce", (2, 1)),
        ("mse", (2, 1)),
        ("cross_entropy", (2, 5)),
        ("cross_entropy", (2, 9)),
        ("m:Loss", (7, 7, 7)),
    ],
)
def test_outputs_that_fit(loss: str, shape: tuple[int, ...]) -> None:
    labels = CLASSES if loss == "cross_entropy" else BINARY
    check_output(loss, shape, rows=2, labels=labels, where="t.yaml:1")


@pytest.mark.parametrize(
    ("loss", "shape", "expected"),
    [
        ("bce", (2, 2), "[2] or [2, 1]"),
        ("mse", (1, 2), "[2] or [2, 1]"),
        ("mse", (), "[2] or [2, 1]"),
        ("cross_entropy", (2, 4), "[2, classes] with at least 5 classes, as in the labels"),
        ("cross_entropy", (2,), "[2, classes] with at least 5 classes, as in the labels"),
    ],
)
def test_outputs_that_do_not_fit(loss: str, shape: tuple[int, ...], expected: str) -> None:
    labels = CLASSES if loss == "cross_entropy" else BINARY
    with pytest.raises(ModelError) as caught:
        check_output(loss, shape, rows=2, labels=labels, where="t.yaml:1: fuse")
    assert str(caught.value) == (
        f"t.yaml:1: fuse: the loss {loss} expects an output of {expected}; for 2 rows the fuse "
        f"model gives {list(shape)}"
    )
