"""The last decoded value of every row of a session, in integers that two ends keep equal.

Rows are int16 in units of ``2**exponent``, an exponent a row: a row takes the unit of the tensor
that it was in last, so the scale of a training may change without touching rows that wait. A value
beyond int16 is cut, at both ends alike: what is remembered is only a prediction.
"""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
import numpy.typing as npt

from slstream.codecs.contract import CodecContext, RowArray, StateSpec
from slstream.codecs.kernel import Scalar, kernel
from slstream.errors import CodecError

CodeArray = npt.NDArray[np.int32]
ByteArray = npt.NDArray[np.uint8]
ShortArray = npt.NDArray[np.int16]

_PART = 1024
"""Rows that are copied at a time to sum them."""


class RememberedRows:
    """The rows of a session.

    Attributes:
        values: int16 [rows of the session, width], from ``StateSpec.allocate``.
        exponents: uint8 [rows of the session], the exponent of the units plus 128; 0 for a row
            that is not remembered.
    """

    __slots__ = ("exponents", "values")

    def __init__(self, spec: StateSpec, width: int) -> None:
        """None of the rows; only arrays of zeros are allocated."""
        # A view of a memory map as a plain array: that is what loops are compiled for.
        self.values: ShortArray = np.asarray(spec.allocate((spec.rows, width), np.int16))
        self.exponents: ByteArray = np.asarray(spec.allocate((spec.rows,), np.uint8))

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Both."""
        return {"rows": self.values, "exponents": self.exponents}

    def checked(
        self, context: CodecContext, count: int, codec_id: str, error: type[CodecError]
    ) -> RowArray:
        """The context's row numbers, which must be ``count`` different ones of the session.

        Raises:
            CodecError: of the given class; says what was found.
        """
        rows = context.rows
        if not isinstance(rows, np.ndarray) or rows.dtype != np.int64 or rows.shape != (count,):
            found = "none" if rows is None else f"{type(rows).__name__}"
            if isinstance(rows, np.ndarray):
                found = f"{rows.dtype} of shape {rows.shape}"
            raise error(
                f"codec {codec_id!r} expected the session's row numbers of the tensor in the "
                f"context, int64 of shape ({count},); found {found}"
            )
        last = len(self.exponents) - 1
        if count and not 0 <= int(rows.min()) <= int(rows.max()) <= last:
            raise error(
                f"codec {codec_id!r} expected row numbers of 0 to {last}; found "
                f"{int(rows.min())} to {int(rows.max())}"
            )
        ordered = np.sort(rows)
        twice = ordered[:-1][ordered[:-1] == ordered[1:]]
        if twice.size:
            raise error(
                f"codec {codec_id!r} expected each row once in a tensor; found row "
                f"{int(twice[0])} more than once"
            )
        return np.ascontiguousarray(rows)

    def checksum(self, rows: RowArray, start: int) -> int:
        """CRC-32, from ``start``, of which rows they are and of all that is remembered of them."""
        for first in range(0, len(rows), _PART):
            part = rows[first : first + _PART]
            start = zlib.crc32(part.astype("<i8", copy=False).tobytes(), start)
            start = zlib.crc32(self.exponents[part].tobytes(), start)
            start = zlib.crc32(self.values[part].astype("<i2", copy=False).tobytes(), start)
        return start

    def predict(self, rows: RowArray, exponent: int) -> CodeArray:
        """The rows in units of ``2**exponent``, 0 where not remembered: int32 [rows, width]."""
        out = np.zeros((len(rows), self.values.shape[1]), np.int32)
        self.add(rows, exponent, out)
        return out

    def add(self, rows: RowArray, exponent: int, out: CodeArray) -> None:
        """Add :meth:`predict` of the same rows to ``out``, int32 [rows, width]."""
        add_rows(rows, self.values, self.exponents, exponent, out)

    def remember(self, rows: RowArray, values: CodeArray, exponent: int) -> None:
        """Keep the values, int32 [rows, width] in units of ``2**exponent``."""
        keep_rows(rows, values, exponent, self.values, self.exponents)

    def forget(self, rows: RowArray) -> None:
        """Make the rows as if they had never been seen."""
        self.exponents[rows] = 0


@kernel("void(const i8[::1], i2[:,::1], u1[::1], i8, i4[:,::1])")
def add_rows(
    rows: RowArray, values: ShortArray, exponents: ByteArray, exponent: Scalar, out: CodeArray
) -> None:
    """Add to each row of ``out`` what is remembered of it, rounded to its units of ``2**exponent``.

    A prediction is cut at ``2**24`` units.
    """
    for r in range(rows.size):
        row = rows[r]
        if exponents[row] == 0:
            continue
        shift = np.int64(exponents[row]) - np.int64(128) - exponent
        factor = np.float64(1.0)
        # By a shift of 24 all is cut, or 0.
        for _ in range(min(abs(shift), np.int64(40))):
            factor = factor * 2.0 if shift > 0 else factor * 0.5
        for i in range(values.shape[1]):
            value = np.rint(np.float64(values[row, i]) * factor)
            out[r, i] += np.int32(min(max(value, -16777216.0), 16777216.0))


@kernel("void(const i8[::1], i4[:,::1], i8, i2[:,::1], u1[::1])")
def keep_rows(
    rows: RowArray, new: CodeArray, exponent: Scalar, values: ShortArray, exponents: ByteArray
) -> None:
    """Replace what is remembered of the rows."""
    for r in range(rows.size):
        row = rows[r]
        for i in range(values.shape[1]):
            values[row, i] = np.int16(min(max(new[r, i], np.int32(-32767)), np.int32(32767)))
        exponents[row] = np.uint8(exponent + 128)
