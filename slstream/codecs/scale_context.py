"""Which elements of a matrix are likely to be large: the contexts of an entropy coder.

The magnitudes of activations differ by column (some units are often off), those of gradients by row
(samples that are predicted well have almost none) and by column. Both are taken from the quantised
matrix itself: each row and each column has a class, the rounded log2 of its mean magnitude, and
an element's context is the sum of its row's and its column's class, clipped into CONTEXTS steps.
A class costs about two bits per row or column; on the cut layers of small networks this lowers the
rate by 20 to 35 % against one table for all elements.

The symbols of a matrix are laid out for the coder as: classes of the rows, classes of the columns,
elements in row-major order, each group with contexts of its own.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from slstream.codecs.contract import TensorSpec
from slstream.codecs.kernel import Scalar, kernel

ByteArray = npt.NDArray[np.uint8]
IntArray = npt.NDArray[np.int32]

CONTEXTS = 8
"""Contexts of elements, 0 to 7."""

ROW_CLASSES = 8
"""Context of the classes of rows."""

COLUMN_CLASSES = 9
"""Context of the classes of columns."""

ALL_CONTEXTS = 10

CLASSES = 16
"""Classes are less than this."""

_FEWEST = 32
"""A row or column with fewer elements than this gets no class: it would cost more than it saves."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """How a tensor is seen as a matrix; follows from its shape, so both ends know it."""

    rows: int
    width: int
    row_classes: int
    """``rows``, or 0 when rows have no classes."""
    column_classes: int
    """``width``, or 0 when columns have no classes."""

    @classmethod
    def of(cls, spec: TensorSpec) -> Layout:
        """Rows are the batch dimension; a 1-D tensor is one row."""
        rows = spec.shape[0] if len(spec.shape) > 1 else 1
        width = spec.elements // rows if rows else 0
        return cls(
            rows=rows,
            width=width,
            row_classes=rows if rows > 1 and width >= _FEWEST else 0,
            column_classes=width if width > 1 and rows >= _FEWEST else 0,
        )

    @property
    def classes(self) -> int:
        """Classes in all, in front of the elements."""
        return self.row_classes + self.column_classes

    def class_contexts(self) -> ByteArray:
        """Contexts of the classes: uint8 [classes]."""
        contexts = np.full(self.classes, COLUMN_CLASSES, np.uint8)
        contexts[: self.row_classes] = ROW_CLASSES
        return contexts


@kernel("void(const i4[::1], i8, u1[::1])")
def classify(sums: IntArray, count: Scalar, classes: ByteArray) -> None:
    """Class of each row or column: bit length of ``64 * sqrt(2) *`` its mean magnitude.

    In integers, so that every machine finds the same. A mean is at most 127, a class at most 14.
    """
    for i in range(sums.size):
        scaled = np.int64(sums[i]) * 91 // count
        width = 0
        while scaled > 0:
            scaled >>= 1
            width += 1
        classes[i] = width


@kernel("i8(const u1[::1], const u1[::1], i8)")
def lowest_sum(row_classes: ByteArray, column_classes: ByteArray, elements: Scalar) -> Scalar:
    """The sum of classes that context 0 stands for (and everything below it).

    Chosen so that the highest context holds at least 1 % of the elements and 64 of them: a table
    for fewer would cost more than it saves.
    """
    rows = np.zeros(CLASSES, np.int64)
    columns = np.zeros(CLASSES, np.int64)
    for i in range(row_classes.size):
        rows[row_classes[i]] += 1
    for i in range(column_classes.size):
        columns[column_classes[i]] += 1
    if row_classes.size == 0:
        rows[0] = 1
    if column_classes.size == 0:
        columns[0] = 1
    total = np.int64(0)
    for i in range(CLASSES):
        for j in range(CLASSES):
            total += rows[i] * columns[j]
    wanted = max(64 * total // max(elements, 1), total // 100, 1)
    above = np.int64(0)
    top = 2 * (CLASSES - 1)
    while top > CONTEXTS - 1:
        for i in range(CLASSES):
            if 0 <= top - i < CLASSES:
                above += rows[i] * columns[top - i]
        if above >= wanted:
            break
        top -= 1
    return top - (CONTEXTS - 1)


@kernel("void(const u1[::1], const u1[::1], i8, i8, u1[::1])")
def fill_contexts(
    row_classes: ByteArray, column_classes: ByteArray, width: Scalar, lowest: Scalar, out: ByteArray
) -> None:
    """Contexts of the elements: ``clip(row + column - lowest, 0, CONTEXTS - 1)``, uint8 [n]."""
    columns = np.zeros(width, np.int32)
    for j in range(column_classes.size):
        columns[j] = column_classes[j]
    columns -= np.int32(lowest)
    last = np.int32(CONTEXTS - 1)
    for r in range(out.size // max(width, 1)):
        base = np.int32(row_classes[r]) if row_classes.size > 0 else np.int32(0)
        row = out[r * width : (r + 1) * width]
        for j in range(width):
            row[j] = np.uint8(min(max(np.int32(columns[j] + base), np.int32(0)), last))
