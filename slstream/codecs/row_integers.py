"""``q8row``, ``q4row``, ``q2row``: integers with one scale a row, or a block, of constant length.

The cheapest codecs that still save 4, 8 or 16 times; and as the length depends on the shape only,
it tells an observer nothing about the data.

Form after the raw one (:mod:`slstream.codecs.payload`):

    offset  size  field
    0       1     1 (UNSIGNED) or 2 (SIGNED)
    1       2r    scales of the r rows: bfloat16, little-endian
    1 + 2r  ...   codes, ceil(width * bits / 8) bytes a row, packed in planes
                  (:func:`slstream.codecs.quantiser.quantise_rows`)

UNSIGNED codes are multiples of the scale; SIGNED ones are too, after subtracting 2**(bits - 1).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from slstream.codecs import quantiser
from slstream.codecs.contract import Buffer, CodecContext, FloatArray, TensorCodec, TensorSpec
from slstream.codecs.parameters import require_choice, require_integer
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
from slstream.errors import DecodeError

UNSIGNED = 1
SIGNED = 2

FINITE_BOUND = np.float32(2.0**120).view(np.int32)
"""Tensors with a larger element go raw: no scale or product then leaves float32."""

TINY = np.float32(2.0**-100)
"""Rows with no larger element become 0: their inverse scale could leave float32."""


@dataclass(frozen=True, slots=True)
class RowIntegers(TensorCodec):
    """Integers of ``bits`` bits, times a scale.

    Bits per element: ``bits + 16 / width``, where the width is that of a row, or ``block``.
    A tensor without a negative element takes an unsigned grid, which halves the scale.

    The scale is the largest ``abs(x)`` of its row over the largest code (255, 15 or 3 unsigned;
    127, 7 or 1 signed), rounded up by at most 2**-7. The error of an element is at most half a
    scale with ``nearest``, below one scale with ``stochastic``, which is unbiased to 2**-17 scales;
    in a row without any ``abs(x)`` above 2**-100, elements become 0.

    Attributes:
        rounding: ``nearest`` or ``stochastic``.
        block: elements that share a scale, 8 to 65536; 0 for one scale a row. Rows are the batch
            dimension; a 1-D tensor is one row.
    """

    bits: ClassVar[int]

    rounding: str = "nearest"
    block: int = 0

    def __post_init__(self) -> None:
        """Refuse parameters out of range."""
        require_choice(self, "rounding", ("nearest", "stochastic"))
        require_integer(self, "block", 8, 65536, or_zero=True)

    def encode(self, tensor: FloatArray, context: CodecContext) -> bytes:
        """See the class; refuses NaN and Inf."""
        array = check_tensor(tensor, self.id)
        flat = array.reshape(-1)
        rows, width = self.rows_of(TensorSpec(shape=array.shape))
        maxima = np.zeros(rows, np.int32)
        negative = quantiser.row_maxima(flat.view(np.int32), width, maxima)
        largest = maxima.max(initial=0)
        if largest >= quantiser.INFINITE:
            raise not_finite(array, self.id)
        size = self.encoded_bytes(rows, width)
        if size > array.nbytes or largest > FINITE_BOUND:
            return encode_raw(array)

        zero = 1 << (self.bits - 1) if negative else 0
        top = (1 << self.bits) - 1
        scales, bfloats = _scales(maxima, top - zero)
        inverses = np.zeros_like(scales)
        np.divide(np.float32(1), scales, out=inverses, where=scales > 0)
        out = np.empty(size, np.uint8)
        out[0] = SIGNED if negative else UNSIGNED
        out[1 : 1 + 2 * rows] = bfloats.view(np.uint8)
        quantiser.quantise_rows(
            flat, width, inverses, self.bits, zero, top,
            self.rounding == "stochastic", *quantiser.noise_keys(context), out[1 + 2 * rows :],
        )  # fmt: skip
        return out.tobytes()

    def decode(self, data: Buffer, spec: TensorSpec, context: CodecContext) -> FloatArray:
        """See the class."""
        parts = self.read(data, spec)
        if parts is None:
            return decode_raw(data, spec, self.id)
        zero, scales, packed = parts
        out = np.empty(spec.elements, np.float32)
        _, width = self.rows_of(spec)
        quantiser.dequantise_rows(packed, width, scales, self.bits, zero, out)
        return out.reshape(spec.shape)

    def read(
        self, data: Buffer, spec: TensorSpec
    ) -> tuple[int, FloatArray, npt.NDArray[np.uint8]] | None:
        """The code of 0.0, scales, and packed codes; ``None`` of a tensor that went raw.

        Raises:
            DecodeError: the bytes are not an encoding of a tensor of this shape.
        """
        form = form_of(data, self.id)
        if form == RAW:
            return None
        if form not in (UNSIGNED, SIGNED):
            raise DecodeError(f"codec {self.id!r}: expected form 0, 1 or 2, got {form}")
        rows, width = self.rows_of(spec)
        expect_length(data, self.encoded_bytes(rows, width), spec, self.id)
        body = as_bytes(data)[1:]
        bfloats = np.frombuffer(body[: 2 * rows].tobytes(), "<u2")
        scales = (bfloats.astype(np.uint32) << np.uint32(16)).view(np.float32)
        if not np.all((scales >= 0) & (scales <= np.float32(2.0**120))):
            raise DecodeError(f"codec {self.id!r}: a scale is not within 0 and 2**120")
        return 1 << (self.bits - 1) if form == SIGNED else 0, scales, body[2 * rows :]

    def rows_of(self, spec: TensorSpec) -> tuple[int, int]:
        """Number of rows, the last may be short, and elements of one."""
        n = spec.elements
        if n == 0:
            return 0, 1
        width = self.block or (n // spec.shape[0] if len(spec.shape) > 1 else n)
        return -(-n // width), width

    def encoded_bytes(self, rows: int, width: int) -> int:
        """Of a tensor of so many rows, when it does not go raw."""
        return 1 + rows * (2 + -(-width * self.bits // 8))


def _scales(
    maxima: npt.NDArray[np.int32], levels: int
) -> tuple[FloatArray, npt.NDArray[np.uint16]]:
    """Scales as float32 and as the bfloat16 that crosses: rounded up, so that no code is cut."""
    largest = maxima.view(np.float32)
    scales = np.where(largest > TINY, largest / np.float32(levels), np.float32(0))
    rounded = (scales.view(np.uint32) + np.uint32(0xFFFF)) & np.uint32(0xFFFF0000)
    return rounded.view(np.float32), (rounded >> np.uint32(16)).astype("<u2")


class Q8Row(RowIntegers):
    """8 bits: 4 times fewer bytes, about 40 dB (50 dB unsigned)."""

    __slots__ = ()
    id: ClassVar[str] = "q8row"
    bits: ClassVar[int] = 8


class Q4Row(RowIntegers):
    """4 bits: 8 times fewer bytes, about 15 dB (25 dB unsigned)."""

    __slots__ = ()
    id: ClassVar[str] = "q4row"
    bits: ClassVar[int] = 4


class Q2Row(RowIntegers):
    """2 bits: 16 times fewer bytes, about 11 dB unsigned; signed it has -1, 0 and 1 only."""

    __slots__ = ()
    id: ClassVar[str] = "q2row"
    bits: ClassVar[int] = 2
