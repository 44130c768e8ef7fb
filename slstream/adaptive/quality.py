"""How much noise a codec may add: a floor for the signal-to-noise ratio, and a guard that lifts it.

Measured on the data sets of the benches, activations of 12 dB while training cost no more than 0.1
points where validation is finer, and gradients, whose noise averages out as it has no bias, bear as
much noise as signal. Less is asked for where a larger loss is allowed, and more where a smaller
one: to first order what is lost grows as the energy of the noise.

That is no promise for another data set, so a guard looks at what comes out: while the validation
loss stays above its best, for a reason that may be another one, the floor is lifted.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

MEASURED_LOSS = 0.1
"""Points, at the floors that follow."""
FLOORS_DB: Mapping[str, float] = {"forward": 12.0, "backward": 0.0}

TOLERATED = 0.01
"""Part of the validation loss by which it may be above its best, with a budget of 0.1 points."""
PATIENCE = 3
"""Evaluations in a row above that, after which the floor is lifted."""
LIFT_DB = 3.0
"""Half the noise."""
MOST_LIFTS = 2
"""When that does not help, noise is not the reason."""


class QualityFloor:
    """The lowest ratio that a codec may have, by direction; the same for all links of a party."""

    def __init__(
        self, *, max_metric_loss: float | None = None, floor_db: float | None = None
    ) -> None:
        """Begin with nothing lifted.

        Args:
            max_metric_loss: points of AUC, accuracy or the like that compression may cost; default:
                :data:`MEASURED_LOSS`.
            floor_db: of activations; gradients are as far below as the measured floors are.
                Default: what ``max_metric_loss`` needs.
        """
        budget = (MEASURED_LOSS if max_metric_loss is None else max_metric_loss) / MEASURED_LOSS
        self._tolerated = TOLERATED * budget
        self._add_db = (
            -10 * math.log10(budget) if floor_db is None else floor_db - FLOORS_DB["forward"]
        )
        self._best = math.inf
        self._above = 0
        self.lifts = 0
        """How often the guard has lifted the floor."""

    def floor_db(self, direction: str) -> float:
        """Of a direction, now."""
        return FLOORS_DB[direction] + self._add_db + LIFT_DB * self.lifts

    def evaluated(self, loss: float) -> bool:
        """Take note of the validation loss of an epoch.

        Returns:
            Whether the guard has lifted the floor.
        """
        self._best = min(self._best, loss)
        tolerated = self._best + self._tolerated * abs(self._best)
        self._above = self._above + 1 if loss > tolerated else 0
        if self._above < PATIENCE or self.lifts == MOST_LIFTS:
            return False
        self._above = 0
        self.lifts += 1
        return True
