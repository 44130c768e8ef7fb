"""Losses by name, and what a model's output must look like for them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
from torch import nn

from slstream.errors import ModelError
from slstream.party.references import load_reference

LabelArray = npt.NDArray[np.float32] | npt.NDArray[np.int64]

_BUILT_IN: dict[str, type[nn.Module]] = {
    "bce": nn.BCEWithLogitsLoss,
    "cross_entropy": nn.CrossEntropyLoss,
    "mse": nn.MSELoss,
}


def build_loss(loss: str, root: Path, where: str) -> nn.Module:
    """A module that maps (output, labels) to a scalar.

    Args:
        loss: a name, or ``module:Class`` of a class without arguments.
        root: the folder of the user's modules.
        where: place in the topology, for messages.

    Raises:
        ModelError: the user's class cannot be imported or built.
    """
    if loss in _BUILT_IN:
        return _BUILT_IN[loss]()
    builder = load_reference(loss, root, where)
    try:
        module = builder() if callable(builder) else builder
    except Exception as error:  # the user's code may raise anything
        raise ModelError(f"{where}: cannot build {loss}(): {error}") from error
    if not isinstance(module, nn.Module):
        raise ModelError(
            f"{where}: {loss}: expected a class of torch.nn.Module, found {type(module).__name__}"
        )
    return module


def check_output(
    loss: str, shape: tuple[int, ...], *, rows: int, labels: LabelArray, where: str
) -> None:
    """Check that the fuse model's output fits the loss.

    Args:
        loss: its name; nothing is expected for a loss of the user's own.
        shape: of the output for ``rows`` rows.
        rows: as above.
        labels: [any], as the loss wants them.
        where: place of the fuse model in the topology.

    Raises:
        ModelError: another shape than the loss needs, or too few classes.
    """
    if loss == "cross_entropy":
        classes = int(labels.max()) + 1
        fits = len(shape) == 2 and shape[0] == rows and shape[1] >= max(classes, 2)
        expected = f"[{rows}, classes] with at least {max(classes, 2)} classes, as in the labels"
    elif loss in _BUILT_IN:
        fits, expected = shape in ((rows,), (rows, 1)), f"[{rows}] or [{rows}, 1]"
    else:
        return
    if not fits:
        raise ModelError(
            f"{where}: the loss {loss} expects an output of {expected}; for {rows} rows the fuse "
            f"model gives {list(shape)}"
        )
