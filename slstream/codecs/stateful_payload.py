"""What codecs with a state share: checks, and a raw form that says which state it continues.

    offset  size  field
    0       1     0 (RAW)
    1       4     which state it continues, u32 little-endian
    5       4n    the n elements, float32 little-endian, row-major

A state is a function of the tensors that were decoded before. A checksum over all of them stands
for it: a tensor that is lost, doubled or out of order shows with the next one.
"""

from __future__ import annotations

import math
import struct

import numpy as np

from slstream.codecs import payload, quantiser
from slstream.codecs.contract import Buffer, CodecState, FloatArray, TensorSpec
from slstream.errors import CodecError, DecodeError

_RAW_HEADER = struct.Struct("<BI")

SMALLEST_RMS = 2.0**-100
LARGEST = 2.0**90
"""Tensors outside of this go raw."""


def magnitudes(array: FloatArray, codec_id: str) -> tuple[float, float]:
    """Root mean square and largest magnitude of a tensor; 0 for one without elements.

    Raises:
        EncodeError: it holds NaN or Inf.
    """
    flat = array.reshape(-1)
    largest, squares = quantiser.magnitudes(flat, flat.view(np.int32))
    if not math.isfinite(largest):
        raise payload.not_finite(array, codec_id)
    return math.sqrt(squares / max(flat.size, 1)), largest


def encode_raw(array: FloatArray, history: int) -> bytes:
    """The raw form of a codec with a state."""
    return _RAW_HEADER.pack(payload.RAW, history) + array.tobytes()


def decode_raw(data: Buffer, spec: TensorSpec, history: int, codec_id: str) -> FloatArray:
    """Undo :func:`encode_raw`; the bytes are foreign.

    Raises:
        DecodeError: another length than the shape demands, or it continues another state.
    """
    out = payload.decode_raw(data, spec, codec_id, offset=_RAW_HEADER.size)
    try:
        check_history(_RAW_HEADER.unpack_from(data)[1], history)
    except DecodeError as exc:
        raise DecodeError(f"codec {codec_id!r}: {exc}") from exc
    return out


def can_be_coded(array: FloatArray, rms: float, largest: float) -> bool:
    """Whether steps of a tensor's rms, and all values in them, stay within float32."""
    return array.size > 0 and (rms == 0 or (rms >= SMALLEST_RMS and largest <= LARGEST))


def check_history(found: int, expected: int) -> None:
    """Refuse a tensor that continues another state.

    Raises:
        DecodeError: names both.
    """
    if found != expected:
        raise DecodeError(
            f"the tensor continues the state {found:08x}, this end is in state {expected:08x}: a "
            "tensor before it was lost, came twice or in another order, or the two ends did not "
            "begin or recover with equal states"
        )


def missing_state(state: CodecState | None, codec_id: str, error: type[CodecError]) -> CodecError:
    """The error, of the given class, for a context without a state of the codec."""
    found = "none" if state is None else type(state).__name__
    return error(
        f"codec {codec_id!r} expected its state in the context, found {found}: make one for each "
        "end of a link with new_state"
    )


def check_width(width: int, shape: tuple[int, ...], codec_id: str, error: type[CodecError]) -> None:
    """Refuse a tensor whose rows are not those that a state was made for.

    Raises:
        CodecError: of the given class; names both widths.
    """
    if math.prod(shape[1:]) != width:
        raise error(
            f"codec {codec_id!r} expected rows of {width} elements, as its state was made for; "
            f"got shape {shape}"
        )
