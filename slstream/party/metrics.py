"""Validation metrics of each loss."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch


def validation_metrics(
    loss_name: str, output: torch.Tensor, labels: torch.Tensor, loss: float
) -> dict[str, float]:
    """Metrics of a validation set, with ``loss`` first.

    Args:
        loss_name: as in the topology; decides what is computed.
        output: float32 [rows, ...] of the fuse model (logits for ``bce`` and ``cross_entropy``).
        labels: [rows].
        loss: mean loss of these rows.

    Returns:
        ``bce``: loss, auc, accuracy; ``cross_entropy``: loss, accuracy, auc (one class against the
        rest, mean over classes); ``mse``: loss, mae, r2; else loss. A metric that these rows do not
        define, such as the AUC of a single class, is left out, and so is all but the loss when an
        output is not finite, as only a diverged model gives.
    """
    metrics = {"loss": loss}
    scores, truth = output.detach().numpy().astype(np.float64), labels.numpy()
    if not len(truth) or not np.isfinite(scores).all():
        return metrics
    if loss_name == "bce":
        metrics |= _binary(scores.reshape(-1), truth)
    elif loss_name == "cross_entropy":
        metrics |= _classes(scores, truth)
    elif loss_name == "mse":
        metrics |= _regression(scores.reshape(-1), truth)
    return metrics


def _binary(logits: npt.NDArray[np.float64], truth: npt.NDArray[np.float32]) -> dict[str, float]:
    accuracy = float(np.mean((logits > 0) == (truth == 1)))
    if len(np.unique(truth)) < 2:
        return {"accuracy": accuracy}
    return {"auc": _area(truth == 1, logits), "accuracy": accuracy}


def _classes(logits: npt.NDArray[np.float64], truth: npt.NDArray[np.int64]) -> dict[str, float]:
    metrics = {"accuracy": float(np.mean(logits.argmax(axis=1) == truth))}
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    chances = shifted / shifted.sum(axis=1, keepdims=True)
    present = np.unique(truth)
    if len(present) > 1:
        # The mean is over the classes that occur: the others have no curve.
        areas = [_area(truth == label, chances[:, label]) for label in present]
        metrics["auc"] = math.fsum(areas) / len(areas)
    return metrics


def _area(positive: npt.NDArray[np.bool_], scores: npt.NDArray[np.float64]) -> float:
    """Area under the ROC curve, by ranks (Mann and Whitney 1947); ties count half.

    Written out because loading scikit-learn would take a third of a party's start.
    """
    _, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[place]
    positives = int(positive.sum())
    pairs = positives * (len(scores) - positives)
    return float((ranks[positive].sum() - positives * (positives + 1) / 2) / pairs)


def _regression(
    values: npt.NDArray[np.float64], truth: npt.NDArray[np.float32]
) -> dict[str, float]:
    errors = values - truth
    metrics = {"mae": float(np.abs(errors).mean())}
    if len(np.unique(truth)) > 1:
        spread = truth.astype(np.float64) - truth.mean(dtype=np.float64)
        metrics["r2"] = float(1 - (errors**2).sum() / (spread**2).sum())
    return metrics
