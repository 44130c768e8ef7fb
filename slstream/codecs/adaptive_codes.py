"""An entropy coder for matrices of small integers that learns their statistics as it goes.

A binary range coder with carries (G. Martin 1979; the form of I. Pavlov's LZMA, public domain) over
adaptive bits: there are no tables to send, which static coding of a few hundred bytes would spend a
third on, and what was learnt from one tensor may be kept for the next.

A value is coded as bits: whether it is not 0; its sign; whether its magnitude exceeds 1, 2, ... 8;
and what is above in Elias gamma code. Every bit has a model of its column; the first one also
tells apart how large the values before it in its row are, as rows differ in scale. A model is the
mean of two estimates of a bit's probability, a fast and a slow one (as in H.266).

Decoding cannot leave its buffers and takes time proportional to the values asked for, whatever the
bytes are: bytes that are missing read as zeros, and reading tells how many it took.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from slstream.codecs.kernel import Scalar, kernel
from slstream.errors import DecodeError

ByteArray = npt.NDArray[np.uint8]
CodeArray = npt.NDArray[np.int32]
ModelArray = npt.NDArray[np.uint16]
CoderState = npt.NDArray[np.uint64]
BitArray = npt.NDArray[np.int64]

LARGEST = 1 << 20
"""An ``abs(value)`` is at most this."""

_LEVELS = 3
_SIGN = _LEVELS
_UNARY = _SIGN + 1
_UNARY_BITS = 8
_PREFIX = _UNARY + _UNARY_BITS
_PREFIX_BITS = 20
MODELS = _PREFIX + _PREFIX_BITS
"""Models of a column."""

_HALF = 1 << 15
_EIGHTH = 1 << 13
_FAST, _SLOW = 4, 7
"""Estimates move by 2**-4 and 2**-7 of the way."""

_TOP = 1 << 24
_LOW, _RANGE, _CACHE, _PENDING, _POSITION = 0, 1, 2, 3, 4


def new_models(columns: int) -> ModelArray:
    """Models that expect 7 of 8 values to be 0, and nothing else: uint16 [columns * MODELS, 2]."""
    models = np.full((columns, MODELS, 2), _HALF, np.uint16)
    models[:, :_LEVELS] = _EIGHTH
    return models.reshape(-1, 2)


def encode(values: CodeArray, models: ModelArray, most: int) -> bytes | None:
    """Encode a matrix.

    Args:
        values: int32 [rows, columns], C-contiguous; at most ``LARGEST`` in magnitude.
        models: of at least one column; columns behind them share the last ones. Updated.
        most: bytes.

    Returns:
        The bytes; ``None`` when there would be more than ``most``.
    """
    out = np.empty(most + 1, np.uint8)
    size = encode_matrix(values.reshape(-1), values.shape[1], models, out)
    if size > most:
        return None
    return out[:size].tobytes().rstrip(b"\0")


def decode(data: ByteArray, rows: int, columns: int, models: ModelArray) -> CodeArray:
    """Undo :func:`encode`; the bytes are foreign.

    Args:
        data: all of the bytes.
        rows: of the matrix.
        columns: of the matrix.
        models: as given to :func:`encode`, updated (also when the bytes are refused).

    Returns:
        int32 [rows, columns].

    Raises:
        DecodeError: not what an encoder wrote.
    """
    values = np.zeros(rows * columns, np.int32)
    read = decode_matrix(data, columns, models, values)
    if read < data.size or (data.size > 0 and data[-1] == 0):
        raise DecodeError(
            f"the coder's bytes do not decode: {rows} x {columns} values took {max(read, 0)} "
            f"of {data.size} bytes"
        )
    return values.reshape(rows, columns)


@kernel("void(u8[::1], u1[::1])")
def _shift(coder: CoderState, out: ByteArray) -> None:
    """Move the highest byte of ``low`` out, as soon as no carry can change it."""
    low = coder[_LOW]
    if low < np.uint64(0xFF000000) or low > np.uint64(0xFFFFFFFF):
        carry = low >> np.uint64(32)
        byte = coder[_CACHE]
        while coder[_PENDING] > np.uint64(0):
            position = coder[_POSITION]
            # The first byte is always 0: position 0 is before the buffer.
            if np.uint64(0) < position <= np.uint64(out.size):
                out[position - np.uint64(1)] = np.uint8((byte + carry) & np.uint64(0xFF))
            coder[_POSITION] = position + np.uint64(1)
            coder[_PENDING] -= np.uint64(1)
            byte = np.uint64(0xFF)
        coder[_CACHE] = (low >> np.uint64(24)) & np.uint64(0xFF)
    coder[_PENDING] += np.uint64(1)
    coder[_LOW] = (low & np.uint64(0x00FFFFFF)) << np.uint64(8)


@kernel("void(u2[:,::1], i8, i8)")
def _learn(models: ModelArray, at: Scalar, bit: Scalar) -> None:
    fast, slow = np.int32(models[at, 0]), np.int32(models[at, 1])
    if bit != 0:
        fast += np.int32((np.int32(65535) - fast) >> np.int32(_FAST))
        slow += np.int32((np.int32(65535) - slow) >> np.int32(_SLOW))
    else:
        fast -= np.int32(fast >> np.int32(_FAST))
        slow -= np.int32(slow >> np.int32(_SLOW))
    models[at, 0], models[at, 1] = np.uint16(fast), np.uint16(slow)


@kernel("u8(u8, u2[:,::1], i8)")
def _bound(size: Scalar, models: ModelArray, at: Scalar) -> Scalar:
    """The part of a range that a 1 takes: above 0 and below all of it, whatever a model holds."""
    chance = (np.uint64(models[at, 0]) + np.uint64(models[at, 1])) >> np.uint64(1)
    chance = min(max(chance, np.uint64(16)), np.uint64(65520))
    return np.uint64(np.uint64(size >> np.uint64(16)) * chance)


@kernel("void(u8[::1], u1[::1])")
def _renew(coder: CoderState, out: ByteArray) -> None:
    while coder[_RANGE] < np.uint64(_TOP):
        coder[_RANGE] <<= np.uint64(8)
        _shift(coder, out)


@kernel("i8(i8, i8, i8[::1], i8[::1])")
def _spell(value: Scalar, first: Scalar, models: BitArray, bits: BitArray) -> Scalar:
    """The bits of a value behind its first one, which is 1, and their models; returns how many.

    A bit that is as often 0 as 1 has model -1, and is turned round.
    """
    magnitude = abs(value)
    models[0], bits[0] = first + _SIGN, np.int64(value < 0)
    steps = int(min(magnitude - 1, _UNARY_BITS))
    count = 1
    for i in range(min(steps + 1, _UNARY_BITS)):
        models[count], bits[count] = first + _UNARY + i, np.int64(i < steps)
        count += 1
    if steps < _UNARY_BITS:
        return count
    rest = magnitude - _UNARY_BITS
    width = 0
    while rest >> (width + 1) > 0:
        models[count], bits[count] = first + _PREFIX + width, 1
        count += 1
        width += 1
    if width < _PREFIX_BITS:
        models[count], bits[count] = first + _PREFIX + width, 0
        count += 1
    for b in range(width):
        models[count], bits[count] = -1, 1 - ((rest >> (width - 1 - b)) & 1)
        count += 1
    return count


@kernel("i8(const i4[::1], i8, u2[:,::1], u1[::1])")
def encode_matrix(values: CodeArray, columns: Scalar, models: ModelArray, out: ByteArray) -> Scalar:
    """Encode values [rows * columns] into ``out``; returns how many bytes they take.

    More than ``out.size`` says that they did not fit.
    """
    coder = np.zeros(5, np.uint64)
    coder[_RANGE] = np.uint64(0xFFFFFFFF)
    coder[_PENDING] = np.uint64(1)
    last = models.shape[0] // MODELS - 1
    spelt = np.zeros(MODELS + _PREFIX_BITS, np.int64)
    bits = np.zeros(MODELS + _PREFIX_BITS, np.int64)
    for start in range(0, values.size, max(columns, 1)):
        seen = 0
        if coder[_POSITION] > np.uint64(out.size + 1):
            break
        for j in range(columns):
            value = np.int64(values[start + j])
            first = min(j, last) * MODELS
            at: Scalar = first + (0 if seen == 0 else (1 if seen < 3 else 2))
            bit: Scalar = np.int64(value != 0)
            count = 0 if value == 0 else _spell(value, first, spelt, bits)
            done = 0
            while True:
                size = coder[_RANGE]
                bound = rest = np.uint64(size >> np.uint64(1))
                if at >= 0:
                    bound = _bound(size, models, at)
                    rest = np.uint64(size - bound)
                    _learn(models, at, bit)
                if bit == 0:
                    coder[_LOW] += bound
                coder[_RANGE] = bound if bit != 0 else rest
                if coder[_RANGE] < np.uint64(_TOP):
                    _renew(coder, out)
                if done == count:
                    break
                at, bit = spelt[done], bits[done]
                done += 1
            weight: Scalar = abs(value)
            seen += min(weight, 3)
    # Of the numbers that end the code, one with as many zero bytes behind as there can be.
    low = coder[_LOW]
    end = low + coder[_RANGE] - np.uint64(1)
    for zeros in range(32, -1, -8):
        mask = (np.uint64(1) << np.uint64(zeros)) - np.uint64(1)
        if (end & ~mask) >= low:
            coder[_LOW] = end & ~mask
            break
    for _ in range(5):
        _shift(coder, out)
    return np.int64(coder[_POSITION] - np.uint64(1))


@kernel("void(u8[::1], const u1[::1])")
def _refill(coder: CoderState, data: ByteArray) -> None:
    while coder[_RANGE] < np.uint64(_TOP):
        coder[_RANGE] <<= np.uint64(8)
        position = coder[_POSITION]
        byte = np.uint64(0)
        if position < np.uint64(data.size):
            byte = np.uint64(data[position])
        coder[_LOW] = np.uint64(coder[_LOW] << np.uint64(8)) | byte
        coder[_POSITION] = position + np.uint64(1)


@kernel("i8(u8[::1], const u1[::1], u2[:,::1], i8)")
def _get(coder: CoderState, data: ByteArray, models: ModelArray, at: Scalar) -> Scalar:
    bound = _bound(coder[_RANGE], models, at)
    bit = 1
    if coder[_LOW] < bound:
        coder[_RANGE] = bound
    else:
        coder[_LOW] -= bound
        coder[_RANGE] -= bound
        bit = 0
    _learn(models, at, bit)
    _refill(coder, data)
    return bit


@kernel("i8(u8[::1], const u1[::1])")
def _get_half(coder: CoderState, data: ByteArray) -> Scalar:
    coder[_RANGE] >>= np.uint64(1)
    bit = 0
    if coder[_LOW] >= coder[_RANGE]:
        coder[_LOW] -= coder[_RANGE]
        bit = 1
    _refill(coder, data)
    return bit


@kernel("i8(const u1[::1], i8, u2[:,::1], i4[::1])")
def decode_matrix(
    data: ByteArray, columns: Scalar, models: ModelArray, values: CodeArray
) -> Scalar:
    """Undo :func:`encode_matrix`; returns how many bytes it read, -1 for a value that is too large.

    It may have read more bytes than there are: those were 0.
    """
    coder = np.zeros(5, np.uint64)
    coder[_RANGE] = np.uint64(0xFFFFFFFF)
    for i in range(4):
        byte = np.uint64(data[i]) if i < data.size else np.uint64(0)
        coder[_LOW] = np.uint64(coder[_LOW] << np.uint64(8)) | byte
    coder[_POSITION] = np.uint64(4)
    last = models.shape[0] // MODELS - 1
    for start in range(0, values.size, max(columns, 1)):
        seen = 0
        for j in range(columns):
            first = min(j, last) * MODELS
            level = 0 if seen == 0 else (1 if seen < 3 else 2)
            if _get(coder, data, models, first + level) == 0:
                values[start + j] = 0
                continue
            negative = _get(coder, data, models, first + _SIGN)
            magnitude = 1
            while magnitude <= _UNARY_BITS:
                if _get(coder, data, models, first + _UNARY + magnitude - 1) == 0:
                    break
                magnitude += 1
            if magnitude > _UNARY_BITS:
                width = 0
                while width < _PREFIX_BITS:
                    if _get(coder, data, models, first + _PREFIX + width) == 0:
                        break
                    width += 1
                rest = 1
                for _ in range(width):
                    rest = rest << 1 | _get_half(coder, data)
                magnitude = _UNARY_BITS + rest
                if magnitude > LARGEST:
                    return np.int64(-1)
            seen += min(magnitude, 3)
            values[start + j] = -magnitude if negative != 0 else magnitude
    return np.int64(coder[_POSITION])
