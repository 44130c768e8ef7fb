"""Decoding by table: each byte stands for one of up to 256 floats, times a scale a row."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from slstream.codecs.contract import FloatArray
from slstream.codecs.kernel import Scalar, kernel


@kernel("void(const u1[::1], i8, const f4[::1], const f4[::1], f4[::1])")
def look_up(
    codes: npt.NDArray[np.uint8],
    width: Scalar,
    scales: FloatArray,
    table: FloatArray,
    out: FloatArray,
) -> None:
    """Elements ``table[code] * scale`` of each row.

    Args:
        codes: uint8 [n], each less than the size of the table.
        width: elements a row.
        scales: float32 [rows].
        table: float32, at most 256.
        out: float32 [n], filled.
    """
    for r in range(scales.size):
        part = codes[r * width : (r + 1) * width]
        row = out[r * width : (r + 1) * width]
        scale = scales[r]
        for j in range(row.size):
            row[j] = table[part[j]] * scale
