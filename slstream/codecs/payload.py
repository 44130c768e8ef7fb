"""What tensor codecs share: checks on what comes in, and the raw form that every one falls back to.

The first byte of an encoded tensor is its form. Form 0 is the same for all codecs that fall back:

    offset  size  field
    0       1     0 (RAW)
    1       4n    the n elements, float32 little-endian, row-major

Other forms are the codec's own and are drawn in its module.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from slstream.codecs.contract import Buffer, FloatArray, TensorSpec
from slstream.errors import DecodeError, EncodeError

RAW = 0
"""Form byte of the raw fallback."""

_FLOAT32 = np.dtype("<f4")
MAX_DIMENSIONS = 4


def check_tensor(tensor: FloatArray, codec_id: str) -> FloatArray:
    """The tensor as a C-contiguous array: itself where it is one, else a copy.

    Raises:
        EncodeError: not a float32 numpy array of 1 to 4 dimensions.
    """
    if not isinstance(tensor, np.ndarray) or tensor.dtype != np.float32:
        found = tensor.dtype if isinstance(tensor, np.ndarray) else type(tensor).__name__
        raise EncodeError(f"codec {codec_id!r} encodes float32 numpy arrays; got {found}")
    if not 1 <= tensor.ndim <= MAX_DIMENSIONS:
        raise EncodeError(
            f"codec {codec_id!r} encodes tensors of 1 to {MAX_DIMENSIONS} dimensions; "
            f"got shape {tensor.shape}"
        )
    return np.ascontiguousarray(tensor)


def not_finite(tensor: FloatArray, codec_id: str) -> EncodeError:
    """The error for a tensor that holds NaN or Inf: names the first bad index and how many."""
    bad = ~np.isfinite(tensor)
    index = tuple(int(i) for i in np.unravel_index(int(np.argmax(bad)), tensor.shape))
    return EncodeError(
        f"codec {codec_id!r} refuses NaN and Inf: found {tensor[index]} at index {index}, "
        f"{int(bad.sum())} of {tensor.size} elements in all; look for a diverging loss or an "
        "overflow in the model, or send with raw32"
    )


def holds_not_finite(codec_id: str) -> DecodeError:
    """The error for bytes that hold NaN or Inf."""
    return DecodeError(f"codec {codec_id!r}: the bytes hold NaN or Inf")


def encode_raw(tensor: FloatArray) -> bytes:
    """Form 0: one byte and the raw float32."""
    return bytes([RAW]) + tensor.tobytes()


def form_of(data: Buffer, codec_id: str) -> int:
    """The form byte.

    Raises:
        DecodeError: there is none.
    """
    if len(data) == 0:
        raise DecodeError(f"codec {codec_id!r}: expected a form byte, got 0 bytes")
    return memoryview(data)[0]


def decode_raw(data: Buffer, spec: TensorSpec, codec_id: str, offset: int = 1) -> FloatArray:
    """Raw float32 from ``offset`` to the end.

    Raises:
        DecodeError: not exactly the bytes of ``spec``.
    """
    expect_length(data, offset + spec.raw_bytes, spec, codec_id)
    return np.frombuffer(data, dtype=_FLOAT32, offset=offset).reshape(spec.shape).copy()


def expect_length(data: Buffer, expected: int, spec: TensorSpec, codec_id: str) -> None:
    """Refuse bytes of another length than the shape demands.

    Raises:
        DecodeError: names both lengths.
    """
    if len(data) != expected:
        raise DecodeError(
            f"codec {codec_id!r}: expected {expected} bytes for shape {spec.shape}, got {len(data)}"
        )


def as_bytes(data: Buffer) -> npt.NDArray[np.uint8]:
    """A read-only uint8 view of the buffer, without copying."""
    view = np.frombuffer(data, dtype=np.uint8)
    view.flags.writeable = False
    return view
