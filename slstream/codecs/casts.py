"""``fp16`` and ``bf16``: half the bits, no state, hardly any error.

Form after the raw one (:mod:`slstream.codecs.payload`):

    offset  size  field
    0       1     1 (CAST)
    1       1     fp16 only: exponent e, i8: each half-precision number times 2**-e is an element
    1 or 2  2n    the n elements, IEEE binary16 or bfloat16, little-endian, row-major

The conversions are integer arithmetic on the bits, as numpy's own to float16 run one by one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from slstream.codecs.contract import Buffer, CodecContext, FloatArray, TensorCodec, TensorSpec
from slstream.codecs.kernel import Scalar, kernel
from slstream.codecs.payload import (
    RAW,
    as_bytes,
    check_tensor,
    decode_raw,
    encode_raw,
    expect_length,
    form_of,
    holds_not_finite,
    not_finite,
)
from slstream.codecs.quantiser import INFINITE, row_maxima
from slstream.errors import DecodeError

HalfArray = npt.NDArray[np.uint16]
IntArray = npt.NDArray[np.int32]

CAST = 1

_TOP_EXPONENT = 15
"""The largest element is scaled to below 2**_TOP_EXPONENT; binary16 ends below 2**16."""

_EXPONENTS = (-113, 112)
"""Range of e: all that a largest element can ask for, but for those below 2**-98."""

HALF_INFINITE = (_TOP_EXPONENT + 16) << 10
"""Smallest value of the bits of a binary16's magnitude that is Inf or NaN."""

BFLOAT_INFINITE = INFINITE >> 16
"""The same of a bfloat16."""


@kernel("void(const i4[::1], i4, u2[::1])")
def _to_half(bits: IntArray, shift: Scalar, out: HalfArray) -> None:
    """float32 times ``2**shift`` to binary16, ties to even; below 2**-14 to a signed 0."""
    bias = np.int32((112 - shift) << 23)
    for i in range(bits.size):
        magnitude = np.int32(bits[i] & np.int32(0x7FFFFFFF))
        sign = np.int32(np.int32(bits[i] >> 16) & np.int32(0x8000))
        even = np.int32(np.int32(magnitude >> 13) & np.int32(1))
        rebased = np.int32(magnitude - bias)
        half = np.int32(np.int32(rebased + np.int32(0xFFF) + even) >> 13)
        out[i] = np.uint16(sign | (half if rebased >= np.int32(1 << 23) else np.int32(0)))


@kernel("i4(const u2[::1], i4, i4[::1])")
def _from_half(halves: HalfArray, shift: Scalar, out: IntArray) -> Scalar:
    """binary16 times ``2**-shift`` to the bits of float32, subnormals read as 0.

    Returns:
        The bits of the largest magnitude among the inputs, as binary16.
    """
    bias = np.int32((112 - shift) << 23)
    top = np.int32(0)
    for i in range(halves.size):
        magnitude = np.int32(np.int32(halves[i]) & np.int32(0x7FFF))
        sign = np.int32(np.int32(np.int32(halves[i]) & np.int32(0x8000)) << 16)
        # Rounding up the largest floats gives 2**128: they come back as the largest finite one.
        value = min(np.int32(np.int32(magnitude << 13) + bias), np.int32(0x7F7FFFFF))
        out[i] = sign | (value if magnitude >= np.int32(1 << 10) else np.int32(0))
        top = max(top, magnitude)
    return top


@kernel("void(const i4[::1], u2[::1])")
def _to_bfloat(bits: IntArray, out: HalfArray) -> None:
    """float32 to bfloat16, ties to even; the largest finite one instead of Inf."""
    for i in range(bits.size):
        magnitude = np.int32(bits[i] & np.int32(0x7FFFFFFF))
        sign = np.int32(np.int32(bits[i] >> 16) & np.int32(0x8000))
        even = np.int32(np.int32(magnitude >> 16) & np.int32(1))
        # At most 0x7F7FFFFF + 0x8000, so that the sum stays positive.
        rounded = np.int32(np.int32(magnitude + np.int32(0x7FFF) + even) >> 16)
        out[i] = np.uint16(sign | min(rounded, np.int32(0x7F7F)))


@kernel("i4(const u2[::1], i4[::1])")
def _from_bfloat(halves: HalfArray, out: IntArray) -> Scalar:
    """bfloat16 to the bits of float32.

    Returns:
        The bits of the largest magnitude among the inputs, as bfloat16.
    """
    top = np.int32(0)
    for i in range(halves.size):
        top = max(top, np.int32(np.int32(halves[i]) & np.int32(0x7FFF)))
        out[i] = np.int32(np.int32(halves[i]) << 16)
    return top


@dataclass(frozen=True, slots=True)
class Fp16(TensorCodec):
    """IEEE half precision of the tensor times a power of two: 16 bits per element.

    The power brings the largest ``abs(x)`` to between 2**14 and 2**15, so nothing overflows and
    the small gradients of a late epoch keep their 11 bits. The error of an element is at most
    2**-11 of it, or 2**-28 of the largest one: elements below that become 0. Biased by rounding
    only.
    """

    id: ClassVar[str] = "fp16"

    def encode(self, tensor: FloatArray, context: CodecContext) -> bytes:
        """See the class; refuses NaN and Inf."""
        array = check_tensor(tensor, self.id)
        largest = _largest_bits(array, self.id)
        if 2 + 2 * array.size > array.nbytes:
            return encode_raw(array)
        shift = shift_for(largest)
        halves = np.empty(array.size, np.uint16)
        _to_half(array.reshape(-1).view(np.int32), shift, halves)
        return bytes([CAST, shift & 0xFF]) + halves.tobytes()

    def decode(self, data: Buffer, spec: TensorSpec, context: CodecContext) -> FloatArray:
        """See the class."""
        parts = self.read(data, spec)
        if parts is None:
            return decode_raw(data, spec, self.id)
        shift, halves = parts
        out = np.empty(spec.elements, np.float32)
        if _from_half(halves, shift, out.view(np.int32)) >= HALF_INFINITE:
            raise holds_not_finite(self.id)
        return out.reshape(spec.shape)

    def read(self, data: Buffer, spec: TensorSpec) -> tuple[int, HalfArray] | None:
        """Exponent and bits, which may be of NaN or Inf; ``None`` of a tensor that went raw.

        Raises:
            DecodeError: the bytes are not an encoding of a tensor of this shape.
        """
        if _form(data, self.id) == RAW:
            return None
        expect_length(data, 2 + 2 * spec.elements, spec, self.id)
        shift = int(as_bytes(data)[1].astype(np.int8))
        low, high = _EXPONENTS
        if not low <= shift <= high:
            raise DecodeError(
                f"codec {self.id!r}: expected an exponent from {low} to {high}, got {shift}"
            )
        return shift, np.frombuffer(data, np.uint16, offset=2)


@dataclass(frozen=True, slots=True)
class Bf16(TensorCodec):
    """bfloat16: the upper half of each float32, rounded to nearest: 16 bits per element.

    The error of an element is at most 2**-8 of it (2**-7 for the largest that float32 can hold).
    """

    id: ClassVar[str] = "bf16"

    def encode(self, tensor: FloatArray, context: CodecContext) -> bytes:
        """See the class; refuses NaN and Inf."""
        array = check_tensor(tensor, self.id)
        _largest_bits(array, self.id)
        if 1 + 2 * array.size > array.nbytes:
            return encode_raw(array)
        halves = np.empty(array.size, np.uint16)
        _to_bfloat(array.reshape(-1).view(np.int32), halves)
        return bytes([CAST]) + halves.tobytes()

    def decode(self, data: Buffer, spec: TensorSpec, context: CodecContext) -> FloatArray:
        """See the class."""
        halves = self.read(data, spec)
        if halves is None:
            return decode_raw(data, spec, self.id)
        out = np.empty(spec.elements, np.float32)
        if _from_bfloat(halves, out.view(np.int32)) >= BFLOAT_INFINITE:
            raise holds_not_finite(self.id)
        return out.reshape(spec.shape)

    def read(self, data: Buffer, spec: TensorSpec) -> HalfArray | None:
        """The bits, which may be of NaN or Inf; ``None`` of a tensor that went raw.

        Raises:
            DecodeError: the bytes are not an encoding of a tensor of this shape.
        """
        if _form(data, self.id) == RAW:
            return None
        expect_length(data, 1 + 2 * spec.elements, spec, self.id)
        return np.frombuffer(as_bytes(data)[1:].tobytes(), np.uint16)


def shift_for(largest: int) -> int:
    """The exponent for a tensor whose largest magnitude has these bits."""
    low, high = _EXPONENTS
    return min(max(_TOP_EXPONENT - 1 - ((largest >> 23) - 127), low), high)


def _largest_bits(array: FloatArray, codec_id: str) -> int:
    """Bits of the largest magnitude.

    Raises:
        EncodeError: it is NaN or Inf.
    """
    flat = array.reshape(-1).view(np.int32)
    maxima = np.zeros(1, np.int32)
    row_maxima(flat, flat.size, maxima)
    if maxima[0] >= INFINITE:
        raise not_finite(array, codec_id)
    return int(maxima[0])


def _form(data: Buffer, codec_id: str) -> int:
    form = form_of(data, codec_id)
    if form not in (RAW, CAST):
        raise DecodeError(f"codec {codec_id!r}: expected form 0 or 1, got {form}")
    return form
