"""When to stop before the last epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

LOWER_IS_BETTER = frozenset({"loss", "mae", "mse"})
"""Metrics that shrink when the model gets better; all others grow."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EarlyStop:
    """Stop once a validation metric has not improved for some epochs."""

    metric: str
    patience: int
    """Epochs without improvement that are tolerated; at least 1."""
    min_delta: float = 0.0
    """Smallest change that counts as an improvement."""

    def reason(self, history: Sequence[Mapping[str, float]]) -> str | None:
        """Why training should end now, or ``None`` to go on.

        Args:
            history: validation metrics of all epochs so far, oldest first. Epochs in which the
                metric could not be computed count as no improvement.
        """
        sign = -1.0 if self.metric in LOWER_IS_BETTER else 1.0
        best, best_epoch = float("-inf"), 0
        for epoch, metrics in enumerate(history, start=1):
            value = sign * metrics.get(self.metric, float("nan"))
            if value > best + self.min_delta:
                best, best_epoch = value, epoch
        if len(history) - best_epoch < self.patience:
            return None
        if best_epoch == 0:
            return f"{self.metric} could not be computed in {len(history)} epochs"
        return (
            f"{self.metric} has not improved on {sign * best:.4f} of epoch {best_epoch} "
            f"for {self.patience} epochs"
        )
