"""One codec chain on one tensor: size, error and speed."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from slstream.codecs.chain import CodecChain
from slstream.codecs.contract import (
    HEADER_BYTES,
    CodecContext,
    FloatArray,
    StateSpec,
    TensorSpec,
)
from slstream.codecs.signal_to_noise import signal_to_noise_db
from slstream.errors import CodecError


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What became of the tensor. Errors are decoded minus original, in the tensor's own units."""

    raw_bytes: int
    encoded_bytes: int
    """Of the payload: a frame's header and its record come on top."""
    bits_per_element: float
    snr_db: float
    """Of the whole tensor, from -200 to 200, which stands for no error."""
    largest_error: float
    """The largest absolute one."""
    mean_error: float
    """The bias: over all elements, in this one encoding."""
    encode_gb_per_s: float
    """GB of float32 a second, the best of several; :attr:`decode_gb_per_s` alike."""
    decode_gb_per_s: float
    stateful: bool
    """Whether this is true of the first tensor of a link only, as the codec remembers."""


def try_codec(
    chain: CodecChain, tensor: FloatArray, context: CodecContext, *, seconds: float = 0.2
) -> Trial:
    """Encode and decode a tensor.

    Args:
        chain: what to try.
        tensor: float32, finite, at least one element.
        context: with the activation, where the chain needs one. A codec with a state gets a new
            one, as before the first tensor of a link, and the rows 0, 1, ....
        seconds: how long each direction is repeated, at least.

    Raises:
        EncodeError: the codec refuses the tensor.
        CodecError: the codec broke its contract.
    """
    spec = TensorSpec(shape=tensor.shape)
    size = StateSpec(rows=len(tensor), row_shape=tensor.shape[1:])
    context = replace(context, rows=np.arange(len(tensor)), state=chain.new_state(size))
    stateful = context.state is not None
    # These calls are the warm-up, too: loops are compiled in the first.
    data = chain.encode(tensor, context)
    decoded = chain.decode(data, spec, context)
    _check(chain, tensor, data, decoded)

    def forget() -> None:
        nonlocal context
        if stateful:
            context = replace(context, state=chain.new_state(size))

    error = decoded.astype(np.float64) - tensor
    return Trial(
        raw_bytes=tensor.nbytes,
        encoded_bytes=len(data),
        bits_per_element=8 * len(data) / tensor.size,
        snr_db=signal_to_noise_db(tensor, decoded),
        largest_error=float(np.max(np.abs(error))),
        mean_error=float(np.mean(error)),
        encode_gb_per_s=best_gb_per_s(
            tensor, lambda: chain.encode(tensor, context), seconds, before=forget
        ),
        decode_gb_per_s=best_gb_per_s(
            tensor, lambda: chain.decode(data, spec, context), seconds, before=forget
        ),
        stateful=stateful,
    )


def _check(chain: CodecChain, tensor: FloatArray, data: object, decoded: object) -> None:
    """Refuse what would make the numbers nonsense; the conformance kit tests far more."""
    fault = None
    most = tensor.nbytes + HEADER_BYTES
    if not isinstance(data, bytes) or len(data) > most:
        found = f"{len(data)} bytes" if isinstance(data, bytes) else type(data).__name__
        fault = f"encoding must give at most {most} bytes, got {found}"
    elif not isinstance(decoded, np.ndarray) or decoded.dtype != np.float32:
        found = str(decoded.dtype) if isinstance(decoded, np.ndarray) else type(decoded).__name__
        fault = f"decoding must give a float32 array, got {found}"
    elif decoded.shape != tensor.shape:
        fault = f"decoding must give shape {tensor.shape}, got {decoded.shape}"
    elif not np.isfinite(decoded).all():
        fault = "decoding gave NaN or infinity for a finite tensor"
    if fault:
        raise CodecError(
            f"codec {chain} breaks its contract: {fault}; test it with CodecContract of "
            "slstream.testing.codecs"
        )


def best_gb_per_s(
    tensor: FloatArray,
    work: Callable[[], object],
    seconds: float,
    *,
    before: Callable[[], object] = lambda: None,
) -> float:
    """Best of repetitions that together last ``seconds``, at least three.

    The best, as other processes can only add time. That of ``before`` does not count.
    """
    best = float("inf")
    repetitions, end = 0, time.perf_counter() + seconds
    while repetitions < 3 or time.perf_counter() < end:
        before()
        start = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - start)
        repetitions += 1
    return tensor.nbytes / best / 1e9
