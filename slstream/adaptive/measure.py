"""What a codec chain would make of a tensor: measured on a part of its rows."""

from __future__ import annotations

import math
from dataclasses import dataclass
from time import perf_counter

import numpy as np

from slstream.codecs.chain import CodecChain
from slstream.codecs.contract import CodecContext, FloatArray, TensorSpec
from slstream.codecs.signal_to_noise import signal_to_noise_db

SAMPLE_ELEMENTS = 32_768
"""About as many are looked at; a millisecond for the slowest chain."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """Of one chain on one kind of tensor."""

    elements: int
    """Of the rows that were looked at."""
    bytes_per_element: float
    row_s: float
    """Seconds of encoding and decoding the first row."""
    rows_s: float
    """Of all rows. Both are kept, not their difference: what disturbs a measurement only adds to
    each, so that the least of several is nearest to the truth."""
    snr_db: float
    """See :func:`signal_to_noise_db`."""

    def seconds(self, elements: int) -> float:
        """Of encoding and decoding a tensor of so many elements, on this machine."""
        any_s = min(self.row_s, self.rows_s)
        return any_s + (self.rows_s - any_s) * elements / self.elements


def sample(tensor: FloatArray) -> FloatArray:
    """Some rows of a tensor, evenly spread."""
    rows = max(1, SAMPLE_ELEMENTS // max(1, math.prod(tensor.shape[1:])))
    every = -(-len(tensor) // rows)
    return np.ascontiguousarray(tensor[:: max(1, every)])


def measure(chain: CodecChain, rows: FloatArray) -> Measure:
    """Encode and decode some rows of a tensor.

    Raises:
        EncodeError: a tensor that the chain refuses.
    """
    _, _, row_s = _there_and_back(chain, rows[:1])
    size, decoded, rows_s = _there_and_back(chain, rows)
    elements = max(1, rows.size)
    return Measure(
        elements=elements,
        bytes_per_element=size / elements,
        row_s=row_s,
        rows_s=rows_s,
        snr_db=signal_to_noise_db(rows, decoded),
    )


def _there_and_back(chain: CodecChain, rows: FloatArray) -> tuple[int, FloatArray, float]:
    """Bytes, what a receiver gets, and how long both took."""
    context, spec = CodecContext(), TensorSpec(shape=rows.shape)
    start = perf_counter()
    data = chain.encode(rows, context)
    decoded = chain.decode(data, spec, context)
    return len(data), decoded, perf_counter() - start
