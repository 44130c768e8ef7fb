"""``fp8``: floats of 8 bits, E4M3 or E5M2, with a power of two for every row.

The formats are those of P. Micikevicius et al. (2022, arXiv:2209.05433), without their NaN and Inf.
Form after the raw one (:mod:`slstream.codecs.payload`):

    offset  size  field
    0       1     1 (CAST)
    1       r     exponents of the r rows, u8: that of a row's largest abs(x), biased by 127 as in
                  float32; 0 for a row that decodes to zeros, else 32 to 246
    1 + r   n     the n elements, row-major, each times 2**(t + 127 - exponent of its row), where
                  t is 7 for E4M3 and 14 for E5M2

The conversions are integer arithmetic on the bits: their result is the same on every machine.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from slstream.codecs.contract import Buffer, CodecContext, FloatArray, TensorCodec, TensorSpec
from slstream.codecs.kernel import Scalar, kernel
from slstream.codecs.look_up import look_up
from slstream.codecs.parameters import require_choice
from slstream.codecs.payload import (
    RAW,
    as_bytes,
    check_tensor,
    decode_raw,
    encode_raw,
    expect_length,
    form_of,
    not_finite,
)
from slstream.codecs.quantiser import INFINITE, fill_noise, noise_keys, row_maxima
from slstream.errors import DecodeError

ByteArray = npt.NDArray[np.uint8]
IntArray = npt.NDArray[np.int32]

_CAST = 1

_SMALLEST, _LARGEST = 32, 246
"""Exponents of rows. Between them no element leaves the normal numbers of float32, either way."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Format:
    """One of the formats: 1 bit of sign, then the exponent, then the mantissa."""

    mantissa: int
    """Bits of it."""
    bias: int
    top: int
    """Exponent to which a row's largest element is brought: one below the format's own largest, so
    that rounding it up stays finite."""
    limit: int
    """Magnitudes from this code on are NaN or Inf."""

    @property
    def reach(self) -> int:
        """Binades from a row's largest element to the smallest normal number."""
        return self.top + self.bias - 1


_FORMATS = {
    "e4m3": _Format(mantissa=3, bias=7, top=7, limit=0x7F),
    "e5m2": _Format(mantissa=2, bias=15, top=14, limit=0x7C),
}


@kernel("void(const i4[::1], i8, const i4[::1], i4, const f4[::1], u1[::1])")
def _round_rows(
    bits: IntArray,
    width: Scalar,
    lowest: IntArray,
    mantissa: Scalar,
    noise: FloatArray,
    out: ByteArray,
) -> None:
    """float32 to fp8: to nearest, ties to even, or up with the probability of what is cut off.

    Args:
        bits: the elements' bits, flat.
        width: elements a row.
        lowest: per row the exponent, biased as in float32, of the smallest normal number.
        mantissa: bits of the mantissa.
        noise: multiples of 2**-16 in [0, 1) for each element, or nothing to round to nearest.
        out: uint8 [n], filled.
    """
    stochastic = noise.size > 0
    cut = np.int32(23 - mantissa)
    for r in range(lowest.size):
        row = bits[r * width : (r + 1) * width]
        codes = out[r * width : (r + 1) * width]
        draws = noise[r * width : (r + 1) * width]
        base = lowest[r]
        for j in range(row.size):
            magnitude = np.int32(row[j] & np.int32(0x7FFFFFFF))
            exponent = max(np.int32(magnitude >> 23), np.int32(1))
            # 24 bits with the leading one, which a subnormal float32 has not.
            digits = np.int32(magnitude - np.int32(np.int32(exponent - np.int32(1)) << 23))
            binade = np.int32(exponent - base)
            shift = np.int32(cut - min(binade, np.int32(0)))
            if stochastic:
                # 16 bits of what is cut off, as many as the noise has.
                fixed = np.int32(digits >> min(np.int32(shift - np.int32(16)), np.int32(31)))
                draw = np.int32(draws[j] * np.float32(65536.0))
                rounded = np.int32(np.int32(fixed + draw) >> 16)
            else:
                shift = min(shift, np.int32(26))  # from there on everything rounds to 0
                even = np.int32(np.int32(digits >> shift) & np.int32(1))
                half = np.int32(np.int32(1 << np.int32(shift - np.int32(1))) - np.int32(1))
                rounded = np.int32(np.int32(digits + half + even) >> shift)
            # In the lowest binade the leading one is part of the exponent, in those above not.
            start = np.int32(max(binade, np.int32(0)) << mantissa)
            sign = np.int32(np.int32(row[j] >> 24) & np.int32(0x80))
            codes[j] = np.uint8(sign | np.int32(start + rounded))


@cache
def _table(name: str) -> FloatArray:
    """What each code stands for, times ``2**-top``: float32 [256]."""
    target = _FORMATS[name]
    codes = np.arange(256)
    exponents = (codes & 0x7F) >> target.mantissa
    digits = codes & ((1 << target.mantissa) - 1) | (exponents > 0) << target.mantissa
    powers = np.maximum(exponents, 1) - target.bias - target.mantissa - target.top
    values = np.ldexp(digits.astype(np.float32), powers)
    table: FloatArray = np.where(codes >= 0x80, -values, values)
    table.flags.writeable = False
    return table


@dataclass(frozen=True, slots=True)
class Fp8(TensorCodec):
    """Floats of 8 bits, each row times a power of two of its own.

    Bits per element: ``8 + 8 / width``. Rows are the batch dimension; a 1-D tensor is one row.

    The power brings the largest ``abs(x)`` of a row to the upper end of the format, so nothing is
    cut off and rows of any scale keep their precision. With P the power of two at or below the
    largest ``abs(x)`` of the row, the error of an element is at most

        format  of an element from    with nearest   or else with nearest   SNR
        e4m3    2**-13 P              2**-4 of it    2**-17 P               31 dB
        e5m2    2**-28 P              2**-3 of it    2**-31 P               25 dB

    and below twice that with ``stochastic``, which is unbiased to 2**-16 of the distance between
    the two neighbours, at 3 dB less. A row without any ``abs(x)`` from 2**-95 on becomes 0; a
    tensor with an element from 2**120 on goes raw and is exact.

    ``q8row`` is as large; it has 40 to 50 dB where the elements of a row are of like size, while
    here small elements beside large ones keep their relative precision.

    Attributes:
        format: ``e4m3`` (finer) or ``e5m2`` (further: its smallest number is 2**-30 P, that of
            ``e4m3`` 2**-16 P).
        rounding: ``nearest`` (ties to even) or ``stochastic``.
    """

    id: ClassVar[str] = "fp8"

    format: str = "e4m3"
    rounding: str = "nearest"

    def __post_init__(self) -> None:
        """Refuse parameters out of range."""
        require_choice(self, "format", tuple(_FORMATS))
        require_choice(self, "rounding", ("nearest", "stochastic"))

    def encode(self, tensor: FloatArray, context: CodecContext) -> bytes:
        """See the class; refuses NaN and Inf."""
        array = check_tensor(tensor, self.id)
        bits = array.reshape(-1).view(np.int32)
        rows, width = _rows(TensorSpec(shape=array.shape))
        maxima = np.zeros(rows, np.int32)
        row_maxima(bits, width, maxima)
        largest = int(maxima.max(initial=0))
        if largest >= INFINITE:
            raise not_finite(array, self.id)
        size = 1 + rows + bits.size
        if size > array.nbytes or largest >> 23 > _LARGEST:
            return encode_raw(array)

        target = _FORMATS[self.format]
        exponents = maxima >> 23
        zero = exponents < _SMALLEST
        # From a base above all exponents everything is too small for any code but 0.
        lowest = np.where(zero, np.int32(INFINITE >> 23) + 32, exponents - np.int32(target.reach))
        noise = np.empty(bits.size if self.rounding == "stochastic" else 0, np.float32)
        fill_noise(noise, 0, *noise_keys(context))
        out = np.empty(size, np.uint8)
        out[0] = _CAST
        out[1 : 1 + rows] = np.where(zero, 0, exponents)
        _round_rows(bits, width, lowest, target.mantissa, noise, out[1 + rows :])
        return out.tobytes()

    def decode(self, data: Buffer, spec: TensorSpec, context: CodecContext) -> FloatArray:
        """See the class."""
        form = form_of(data, self.id)
        if form == RAW:
            return decode_raw(data, spec, self.id)
        if form != _CAST:
            raise DecodeError(f"codec {self.id!r}: expected form 0 or 1, got {form}")
        rows, width = _rows(spec)
        expect_length(data, 1 + rows + spec.elements, spec, self.id)
        body = as_bytes(data)[1:]
        exponents, codes = body[:rows], body[rows:]
        if not np.all((exponents == 0) | (exponents >= _SMALLEST) & (exponents <= _LARGEST)):
            raise DecodeError(
                f"codec {self.id!r}: a row's exponent is neither 0 nor from {_SMALLEST} to "
                f"{_LARGEST}"
            )
        if codes.size and int((codes & np.uint8(0x7F)).max()) >= _FORMATS[self.format].limit:
            raise DecodeError(f"codec {self.id!r}: the bytes hold NaN or Inf")
        out = np.empty(spec.elements, np.float32)
        scales = (exponents.astype(np.uint32) << np.uint32(23)).view(np.float32)
        look_up(codes, width, scales, _table(self.format), out)
        return out.reshape(spec.shape)


def _rows(spec: TensorSpec) -> tuple[int, int]:
    """Number of rows and elements of one; no rows where there are no elements."""
    n = spec.elements
    if n == 0:
        return 0, 1
    rows = spec.shape[0] if len(spec.shape) > 1 else 1
    return rows, n // rows
