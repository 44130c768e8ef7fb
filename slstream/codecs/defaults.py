"""The chains that a topology uses when it names none.

Train coarse, infer fine: what crosses in training averages out over batches, what a validation or
a prediction depends on does not. Chosen among some twenty by trainings in one process that are
coded at the cut, against float32 in the same framing of 170 bytes per frame, with validation after
each epoch and without the opening of a session, over paired seeds, in batches of 512:

    data (parties, epochs)                  seeds  bytes         metric, points (standard error)
    30,000 tabular rows (2, 8)              8      26.0 x less   AUC -0.06 (0.04)
    scikit-learn digits (2, 45)             20     30.2 x less   accuracy -0.13 (0.16)
    scikit-learn breast cancer (3, 60)      12     25.1 x less   AUC -0.01 (0.01)

On the first, evaluation in steps of 0.5 costs 0.08 points more, and a mask over the gradients 0.05.
"""

from __future__ import annotations

from typing import Final

DEFAULT_FORWARD: Final[list[dict[str, object]]] = [
    {"id": "ecsq", "step": 1.0, "rounding": "nearest"}
]
"""Activations while training: coarse, because noise of 12 dB below the signal averages out over
batches. Nearest, because it halves the noise and no average over activations needs to be right."""

DEFAULT_BACKWARD: Final[list[dict[str, object]]] = [
    {"id": "ecsq", "step": 2.0, "rounding": "stochastic"}
]
"""Gradients: coarser still, but unbiased, as a step's weights see the mean over a batch: with
nearest rounding a training with a coarse step loses 10 points of accuracy."""

DEFAULT_EVALUATION: Final[list[dict[str, object]]] = [
    {"id": "ecsq", "step": 0.25, "rounding": "nearest"}
]
"""Activations of validation and prediction: fine, because the output for a sample depends on them
once and nothing averages. About 2.6 bits an element, but sent a fraction as often as the others."""
