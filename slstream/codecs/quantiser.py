"""The loops that turn float32 into small integers and back, and the noise of stochastic rounding.

All arrays are C-contiguous. Integer views of the floats stand in for float reductions: integer
maxima may be reordered, so the compiler vectorises them, and the result is the same everywhere.

**Noise.** Element ``i`` of a tensor draws 16 bits from a 32-bit mixer of ``i`` under two 32-bit
keys: ``lowbias32`` of C. Wellons' hash prospector (2018, public domain) with the second key added
between its rounds, so that two tensors never see shifted copies of one sequence. 16 bits leave
room in a float32 beside an integer of up to 8 bits, so adding the noise does not round.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from slstream.codecs.contract import CodecContext, FloatArray
from slstream.codecs.kernel import Scalar, kernel

ByteArray = npt.NDArray[np.uint8]
IntArray = npt.NDArray[np.int32]

_MASK_64 = (1 << 64) - 1

INFINITE = 0x7F800000
"""Smallest value of the bits of ``abs(x)`` that is Inf or NaN."""


def noise_keys(context: CodecContext) -> tuple[int, int]:
    """Two 32-bit keys of a tensor's noise: SplitMix64 (Steele, Lea, Flood 2014) of the context."""
    key = _split_mix(_split_mix(context.seed) ^ (context.counter & _MASK_64))
    return key & 0xFFFFFFFF, key >> 32


def _split_mix(x: int) -> int:
    x = (x + 0x9E3779B97F4A7C15) & _MASK_64
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & _MASK_64
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & _MASK_64
    return x ^ (x >> 31)


@kernel("void(f4[::1], u4, u4, u4)")
def fill_noise(noise: FloatArray, first: Scalar, key_0: Scalar, key_1: Scalar) -> None:
    """Uniform multiples of 2**-16 in [0, 1) for elements ``first, first + 1, ...``."""
    start = np.uint32(first + key_0)
    for j in range(noise.size):
        x = np.uint32(start + np.uint32(j))
        x = np.uint32(x ^ (x >> np.uint32(16)))
        x = np.uint32(x * np.uint32(0x7FEB352D))
        x = np.uint32(x + key_1)
        x = np.uint32(x ^ (x >> np.uint32(15)))
        x = np.uint32(x * np.uint32(0x846CA68B))
        noise[j] = np.float32(np.int32(x >> np.uint32(16))) * np.float32(2.0**-16)


@kernel("i4(const i4[::1], i8, i4[::1])")
def row_maxima(bits: IntArray, width: Scalar, maxima: IntArray) -> Scalar:
    """Per row of ``width`` elements (the last may be short): bits of the largest ``abs(x)``.

    Returns:
        1 when any element is below zero, else 0. A negative zero is not below zero.
    """
    negative = np.int32(0)
    for r in range(maxima.size):
        row = bits[r * width : min((r + 1) * width, bits.size)]
        top = np.int32(0)
        low = np.int32(0)
        for j in range(row.size):
            top = max(top, np.int32(row[j] & np.int32(0x7FFFFFFF)))
            # As a signed integer only -0.0 is the minimum; subtracting 1 wraps it to the maximum.
            low = min(low, np.int32(row[j] - np.int32(1)))
        maxima[r] = top
        if low < np.int32(-1):
            negative = np.int32(1)
    return negative


@kernel("void(const f4[::1], i8, const f4[::1], i8, i4, i4, b1, u4, u4, u1[::1])")
def quantise_rows(
    x: FloatArray,
    width: Scalar,
    inverses: FloatArray,
    bits: Scalar,
    zero: Scalar,
    top: Scalar,
    stochastic: bool,
    key_0: Scalar,
    key_1: Scalar,
    out: ByteArray,
) -> None:
    """Codes ``clip(round(x / scale) + zero, 0, top)`` of each row, packed.

    A row's codes are cut into ``8 // bits`` planes; byte j holds element j of every plane, the
    first in its lowest bits. Planes keep neighbours apart, so that packing is whole-vector work.

    Args:
        x: the tensor, flat.
        width: elements a row; the last row may be short.
        inverses: ``1 / scale`` of each row.
        bits: 2, 4 or 8.
        zero: code of 0.0.
        top: largest code.
        stochastic: round up with the probability of the fraction, else to nearest.
        key_0: noise key.
        key_1: noise key.
        out: ``ceil(width * bits / 8)`` bytes a row.
    """
    planes = 8 // bits
    stride = (width + planes - 1) // planes
    codes = np.zeros(stride * planes, np.uint8)
    noise = np.full(width, np.float32(0.5), np.float32)
    offset = np.float32(zero)
    for r in range(inverses.size):
        row = x[r * width : min((r + 1) * width, x.size)]
        packed = out[r * stride : (r + 1) * stride]
        if stochastic:
            fill_noise(noise[: row.size], np.uint32(r * width), key_0, key_1)
        for j in range(row.size, width):  # of a short last row
            codes[j] = 0
        target = packed if planes == 1 else codes
        inverse = inverses[r]
        for j in range(row.size):
            code = np.int32(row[j] * inverse + (offset + noise[j]))
            target[j] = np.uint8(min(max(code, np.int32(0)), np.int32(top)))
        if planes == 1:
            for j in range(row.size, width):
                packed[j] = 0
        elif planes == 2:
            for j in range(stride):
                packed[j] = np.uint8(codes[j] | np.uint8(codes[stride + j] << 4))
        else:
            for j in range(stride):
                low = np.uint8(codes[j] | np.uint8(codes[stride + j] << 2))
                high = np.uint8(codes[2 * stride + j] | np.uint8(codes[3 * stride + j] << 2))
                packed[j] = np.uint8(low | np.uint8(high << 4))


@kernel("void(const u1[::1], i8, const f4[::1], i8, i4, f4[::1])")
def dequantise_rows(
    packed: ByteArray,
    width: Scalar,
    scales: FloatArray,
    bits: Scalar,
    zero: Scalar,
    out: FloatArray,
) -> None:
    """Undo :func:`quantise_rows`: ``(code - zero) * scale`` of each row."""
    planes = 8 // bits
    stride = (width + planes - 1) // planes
    mask = np.uint8((1 << bits) - 1)
    for r in range(scales.size):
        codes = packed[r * stride : (r + 1) * stride]
        row = out[r * width : min((r + 1) * width, out.size)]
        scale = scales[r]
        for p in range(planes):
            shift = np.uint8(p * bits)
            plane = row[min(p * stride, row.size) : min((p + 1) * stride, row.size)]
            for j in range(plane.size):
                code = np.int32(np.uint8(codes[j] >> shift) & mask)
                plane[j] = np.float32(code - zero) * scale


@kernel("f8(const f4[::1])")
def sum_of_squares(x: FloatArray) -> Scalar:
    """In float64, in up to 512 interleaved sums: a fixed order that vectorises."""
    sums = np.zeros(min(x.size, 512), np.float64)
    for first in range(0, x.size, max(sums.size, 1)):
        part = x[first : min(first + sums.size, x.size)]
        for j in range(part.size):
            sums[j] += np.float64(part[j]) * np.float64(part[j])
    total = np.float64(0.0)
    for j in range(sums.size):
        total += sums[j]
    return total


@kernel("Tuple((f4, f8))(const f4[::1], const i4[::1])")
def magnitudes(x: FloatArray, bits: IntArray) -> tuple[Scalar, Scalar]:
    """The largest ``abs(x)``, 0 without elements, and the sum of squares.

    Args:
        x: the tensor, flat.
        bits: its view as int32.

    Returns:
        The first one is NaN or Inf when any element is.
    """
    maxima = np.zeros(1, np.int32)
    row_maxima(bits, max(bits.size, 1), maxima)
    return maxima.view(np.float32)[0], sum_of_squares(x)


@kernel("void(const f4[::1], f4, b1, u4, u4, u1[::1])")
def quantise_step(
    x: FloatArray,
    inverse: Scalar,
    stochastic: bool,
    key_0: Scalar,
    key_1: Scalar,
    symbols: ByteArray,
) -> None:
    """Symbols of ``k = round(x / step)``: 0, -1, 1, -2, ... become 0, 1, 2, 3, ... up to 255.

    Args:
        x: the tensor, flat.
        inverse: ``1 / step``.
        stochastic: round up with the probability of the fraction, else to nearest.
        key_0: noise key.
        key_1: noise key.
        symbols: uint8 [n]; 255 stands for every symbol from 255 on.
    """
    noise = np.full(min(x.size, 4096), np.float32(0.5), np.float32)
    for first in range(0, x.size, max(noise.size, 1)):
        part = x[first : min(first + noise.size, x.size)]
        codes = symbols[first : first + part.size]
        if stochastic:
            fill_noise(noise[: part.size], np.uint32(first), key_0, key_1)
        for j in range(part.size):
            k = np.int32(np.floor(part[j] * inverse + noise[j]))
            zigzag = np.int32(np.int32(k << 1) ^ np.int32(k >> 31))
            codes[j] = np.uint8(min(zigzag, np.int32(255)))


@kernel("void(const f4[::1], f4, b1, u4, u4, const i8[::1], i8[::1])")
def quantise_at(
    x: FloatArray,
    inverse: Scalar,
    stochastic: bool,
    key_0: Scalar,
    key_1: Scalar,
    where: npt.NDArray[np.int64],
    out: npt.NDArray[np.int64],
) -> None:
    """The values ``k`` that :func:`quantise_step` rounds to, of the elements ``where`` only."""
    noise = np.full(1, np.float32(0.5), np.float32)
    for e in range(where.size):
        if stochastic:
            fill_noise(noise, np.uint32(where[e]), key_0, key_1)
        out[e] = np.int64(np.floor(x[where[e]] * inverse + noise[0]))


@kernel("void(const u1[::1], f4, f4[::1])")
def dequantise_step(symbols: ByteArray, step: Scalar, out: FloatArray) -> None:
    """Undo :func:`quantise_step` for symbols below 255: ``k * step``."""
    for i in range(symbols.size):
        s = np.int32(symbols[i])
        out[i] = np.float32(np.int32(s >> 1) ^ np.int32(-np.int32(s & np.int32(1)))) * step
