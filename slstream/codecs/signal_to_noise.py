"""How much of a tensor is left after coding it."""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from slstream.codecs.contract import FloatArray

EXACT_DB: Final = 200.0
"""Without any error: a finite number, which can be compared, averaged and written as JSON."""


def signal_to_noise_db(tensor: FloatArray, decoded: FloatArray) -> float:
    """Of the whole tensor; ``EXACT_DB`` without any error, and at most that either way."""
    signal = float(np.sum(tensor.astype(np.float64) ** 2))
    noise = float(np.sum((tensor.astype(np.float64) - decoded) ** 2))
    if noise == 0:
        return EXACT_DB
    if signal == 0:
        return -EXACT_DB
    return max(-EXACT_DB, min(EXACT_DB, 10 * math.log10(signal / noise)))
