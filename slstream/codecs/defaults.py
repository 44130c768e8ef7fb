"""The chains that a topology uses when it names none.

Chosen as the coarsest steps whose metric stays within 0.1 points of float32 and the standard error,
where every party can see the whole of a batch of hundreds of rows: smaller batches average less of
the noise away, but the three data sets that slstream is measured on bear it in batches of 64, too.

Other chains may be found to be better, and a session whose topology names none has to be replayed
with those that it had: the choices have numbers. An agreed topology holds the number
(``codec.defaults``), and the newest stands for it in a topology that names no number.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

Configs = Sequence[Mapping[str, object]]


@dataclass(frozen=True, slots=True, kw_only=True)
class DefaultChains:
    """What stands for ``auto``."""

    forward: Configs
    """Activations while training: coarse, because noise of 12 to 16 dB below the signal averages
    out over batches. Nearest, because it halves the noise and no average over activations needs to
    be right."""
    backward: Configs
    """Gradients: coarser still, but unbiased, as a step's weights see the mean over a batch: with
    nearest rounding a training with a coarse step loses 10 points of accuracy."""
    evaluation: Configs
    """Activations of validation and prediction: fine, because the output for a sample depends on
    them once and nothing averages. 2 to 2.7 bits an element, but sent a fraction as often."""


def _ecsq(step: float, rounding: str) -> Configs:
    return ({"id": "ecsq", "step": step, "rounding": rounding},)


DEFAULTS: Final[Mapping[int, DefaultChains]] = MappingProxyType(
    {
        1: DefaultChains(
            forward=_ecsq(0.75, "nearest"),
            backward=_ecsq(1.5, "stochastic"),
            evaluation=_ecsq(0.35, "nearest"),
        ),
        2: DefaultChains(
            forward=_ecsq(1.0, "nearest"),
            backward=_ecsq(2.0, "stochastic"),
            evaluation=_ecsq(0.25, "nearest"),
        ),
        3: DefaultChains(
            forward=_ecsq(1.0, "nearest"),
            backward=({"id": "ecsq_signs", "step": 2.0, "rounding": "stochastic"},),
            evaluation=_ecsq(0.3, "nearest"),
        ),
    }
)
"""By number. None is ever changed: there are sessions with it."""
