"""Speed, size and fidelity of the codecs: GB/s of float32 input on one core."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
import torch

from slstream.bench.codec_trial import best_gb_per_s, try_codec
from slstream.bench.report import Report, Result, at_least
from slstream.codecs.chain import CodecChain
from slstream.codecs.contract import CodecContext, FloatArray

CHAINS: Mapping[str, Sequence[Mapping[str, object]]] = {
    "raw32": [{"id": "raw32"}],
    "fp16": [{"id": "fp16"}],
    "bf16": [{"id": "bf16"}],
    "fp8": [{"id": "fp8"}],
    "fp8-e5m2": [{"id": "fp8", "format": "e5m2"}],
    "q8row": [{"id": "q8row"}],
    "q4row": [{"id": "q4row"}],
    "q2row": [{"id": "q2row"}],
    "q4row-stochastic": [{"id": "q4row", "rounding": "stochastic"}],
    "ecsq-0.25": [{"id": "ecsq", "step": 0.25}],
    "ecsq": [{"id": "ecsq"}],
    "ecsq-stochastic": [{"id": "ecsq", "step": 2.0, "rounding": "stochastic"}],
    "ecsq_signs": [{"id": "ecsq_signs"}],
    "topk": [{"id": "topk"}],
    "topk+ecsq": [{"id": "topk", "values": {"id": "ecsq", "step": 0.5}}],
    "randtopk": [{"id": "randtopk"}],
    "randomk": [{"id": "randomk"}],
    "kmeans": [{"id": "kmeans"}],
    "klt": [{"id": "klt"}],
    "delta": [{"id": "delta"}],
    "lz4": [{"id": "raw32"}, {"id": "lz4"}],
    "zstd": [{"id": "raw32"}, {"id": "zstd"}],
    "zstd_shuffled": [{"id": "raw32"}, {"id": "zstd_shuffled", "width": 4}],
    "fp16-zstd_shuffled": [{"id": "fp16"}, {"id": "zstd_shuffled"}],
}
"""Chains that are measured, by the name in the report."""

SHAPES = ((1024, 64), (256, 256), (1024, 256), (4096, 256))
"""256 KiB to 4 MiB of float32."""

_ROW_INTEGERS = 4.0
_ENTROPY_ENCODE, _ENTROPY_DECODE = 1.0, 2.0
_TARGETS = {
    **{name: (_ROW_INTEGERS, _ROW_INTEGERS) for name in CHAINS if name.startswith("q")},
    **{name: (_ENTROPY_ENCODE, _ENTROPY_DECODE) for name in CHAINS if name.startswith("ecsq")},
}

_CONTEXT = CodecContext(seed=1, counter=1)


def run(
    *,
    chains: Mapping[str, Sequence[Mapping[str, object]]] = CHAINS,
    shapes: Sequence[tuple[int, int]] = SHAPES,
    seconds: float = 0.05,
) -> Report:
    """Measure every chain on synthetic activations and gradients of every shape.

    Args:
        chains: chains by the name in the report.
        shapes: rows and columns of the tensors.
        seconds: how long one direction of one codec is repeated on one tensor, at least.

    Returns:
        Per chain the speed of the slowest tensor each way, and over all tensors the mean bits per
        element and the mean signal-to-noise ratio; per tensor the best of the repetitions counts,
        as other processes can only add time. Then memcpy and torch's casts on the same tensors.
    """
    tensors = [make(*shape) for shape in shapes for make in (_activation, _gradient)]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        results = [
            result
            for name, config in chains.items()
            for result in _measure_chain(name, CodecChain.from_config(config), tensors, seconds)
        ]
        results += _measure_copies(tensors, seconds)
    finally:
        torch.set_num_threads(threads)
    sizes = ", ".join(f"{rows}x{columns}" for rows, columns in shapes)
    return Report(
        bench="codecs",
        results=tuple(results),
        notes=(
            f"one core, float32 tensors of {sizes}: half post-ReLU activations, half gradients "
            "whose rows differ in scale; speeds are those of the slowest tensor; klt and delta as "
            "for the first tensor of a link, which finds a basis",
        ),
    )


def _measure_chain(
    name: str, chain: CodecChain, tensors: Sequence[FloatArray], seconds: float
) -> list[Result]:
    encode, decode, bits, snr = [], [], [], []
    for tensor in tensors:
        trial = try_codec(chain, tensor, _CONTEXT, seconds=seconds)
        bits.append(trial.bits_per_element)
        snr.append(trial.snr_db)
        encode.append(trial.encode_gb_per_s)
        decode.append(trial.decode_gb_per_s)
    speeds = []
    bounds = _TARGETS.get(name, (None, None))
    for way, values, bound in zip(("encode", "decode"), (encode, decode), bounds, strict=True):
        label = f"{name}/{way}_gb_per_s"
        speeds.append(
            Result(name=label, value=min(values), unit="GB/s")
            if bound is None
            else at_least(label, min(values), "GB/s", bound)
        )
    return [
        *speeds,
        Result(name=f"{name}/bits_per_element", value=float(np.mean(bits)), unit="bit"),
        Result(name=f"{name}/snr_db", value=float(np.mean(snr)), unit="dB"),
    ]


def _measure_copies(tensors: Sequence[FloatArray], seconds: float) -> list[Result]:
    """What the machine can do: a copy, and torch's conversions, of the same tensors."""
    work: dict[str, Callable[[FloatArray], Callable[[], object]]] = {
        "memcpy": _copy,
        "torch_float16": partial(_cast, dtype=torch.float16),
        "torch_bfloat16": partial(_cast, dtype=torch.bfloat16),
        "torch_int8": partial(_cast, dtype=torch.int8),
    }
    return [
        Result(
            name=f"{name}_gb_per_s",
            value=min(best_gb_per_s(tensor, prepare(tensor), seconds) for tensor in tensors),
            unit="GB/s",
        )
        for name, prepare in work.items()
    ]


def _copy(tensor: FloatArray) -> Callable[[], object]:
    return partial(np.copyto, np.empty_like(tensor), tensor)


def _cast(tensor: FloatArray, *, dtype: torch.dtype) -> Callable[[], object]:
    return partial(torch.from_numpy(tensor).to, dtype)


def _activation(rows: int, columns: int) -> FloatArray:
    """Post-ReLU: columns differ in scale and in how often they are 0."""
    rng = np.random.default_rng(rows)
    scale, shift = np.exp(0.7 * rng.standard_normal(columns)), 0.7 * rng.standard_normal(columns)
    values = np.maximum(rng.standard_normal((rows, columns)) + shift, 0) * scale
    return values.astype(np.float32)


def _gradient(rows: int, columns: int) -> FloatArray:
    """Heavy-tailed: the norms of rows span five orders of magnitude."""
    rng = np.random.default_rng(rows + 1)
    scale = np.exp(2.5 * rng.standard_normal((rows, 1)) - 9)
    return (rng.standard_normal((rows, columns)) * scale).astype(np.float32)
