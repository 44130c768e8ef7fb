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

    bytes_per_element: float
    seconds: float
    """Of encoding and decoding whatever tensor, on this machine."""
    seconds_per_element: float
    """What comes to that."""
    snr_db: float
    """See :func:`signal_to_noise_db`."""


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
    _, _, first_s = _there_and_back(chain, rows[:1])
    size, decoded, seconds = _there_and_back(chain, rows)
    elements = max(1, rows.size)
    return Measure(
        bytes_per_element=size / elements,
        seconds=min(first_s, seconds),
        seconds_per_element=max(0.0, seconds - first_s) / elements,
        snr_db=signal_to_noise_db(rows, decoded),
    )


def _there_and_back(chain: CodecChain, rows: FloatArray) -> tuple[int, FloatArray, float]:
    """Bytes, what a receiver gets, and how long both took."""
    context, spec = CodecContext(), TensorSpec(shape=rows.shape)
    start = perf_counter()
    data = chain.encode(rows, context)
    decoded = chain.decode(data, spec, context)
    return len(data), decoded, perf_counter() - start
