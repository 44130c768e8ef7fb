"""Which elements of a matrix are likely to be large: the contexts of an entropy coder.

The magnitudes of activations differ by column (some units are often off), those of gradients by row
(samples that are predicted well have almost none) and by column. Both are taken from the quantised
matrix itself: each row and each column has a class, the rounded log2 of its mean magnitude, and
an element's context is the sum of its row's and its column's class, clipped into CONTEXTS steps.
A class costs about two bits per row or column; on the cut layers of small networks this lowers the
rate by 20 to 35 % against one table for all elements.

The symbols of a matrix are laid out for the coder as: classes of the rows, classes of the columns,
elements in row-major order, each group with contexts of its own.

A mask may leave elements out that both ends know to be 0. The others keep their place in the matrix
and so their contexts; the mean of a row or column is over what is left of it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from slstream.codecs.contract import TensorSpec
from slstream.codecs.kernel import Scalar, kernel

BoolArray = npt.NDArray[np.bool_]
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

FEWEST = 32
"""A row or column with fewer elements than this gets no class: it would cost more than it saves."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """How a tensor is seen as a matrix; follows from shape and mask, so both ends know it."""

    rows: int
    width: int
    row_classes: int
    """``rows``, or 0 when rows have no classes."""
    column_classes: int
    """``width``, or 0 when columns have no classes."""
    mask: BoolArray | None = field(default=None, compare=False)
    """Which elements are coded, [rows * width]; ``None`` for all."""

    @classmethod
    def of(cls, spec: TensorSpec, mask: BoolArray | None = None) -> Layout:
        """Rows are the batch dimension; a 1-D tensor is one row."""
        whole = _layout_of(spec.shape)
        return whole if mask is None else replace(whole, mask=mask.reshape(-1))

    @property
    def classes(self) -> int:
        """Classes in all, in front of the elements."""
        return self.row_classes + self.column_classes

    @property
    def elements(self) -> int:
        """Elements that are coded."""
        if self.mask is None:
            return self.rows * self.width
        return int(np.count_nonzero(self.mask))

    @property
    def raw_bytes(self) -> int:
        """Size of these as float32."""
        return 4 * self.elements

    def split(self, classes: ByteArray) -> tuple[ByteArray, ByteArray]:
        """Those of the rows, and those of the columns."""
        return classes[: self.row_classes], classes[self.row_classes :]

    def select(self, values: ByteArray) -> ByteArray:
        """Of one value per element [rows * width], those of elements that are coded, in order."""
        if self.mask is None:
            return values
        selected = np.empty(self.elements + 1, np.uint8)
        select(values, self.mask.view(np.uint8), selected)
        return selected[:-1]

    def restore(self, selected: ByteArray) -> ByteArray:
        """Undo :meth:`select`, with 0 for elements that are not coded."""
        if self.mask is None:
            return selected
        values = np.empty(self.mask.size, np.uint8)
        restore(np.append(selected, np.uint8(0)), self.mask.view(np.uint8), values)
        return values

    def coded(self, values: ByteArray) -> ByteArray:
        """Of one value per class and element those that are coded."""
        if self.mask is None:
            return values
        return np.concatenate((values[: self.classes], self.select(values[self.classes :])))

    def fit(self, symbols: ByteArray) -> tuple[ByteArray, int]:
        """Find the classes of a matrix, and the contexts that they give.

        Args:
            symbols: uint8 [classes + rows * width]: the classes, which are filled in, and the
                elements, 0 where the mask leaves them out.

        Returns:
            The contexts of all symbols, and the sum of classes that context 0 stands for.
        """
        if self.mask is not None:
            self._classify_masked(symbols, self.mask)
        return self.contexts_of(symbols, classifies=self.mask is None)

    def contexts_of(self, symbols: ByteArray, *, classifies: bool = False) -> tuple[ByteArray, int]:
        """As :meth:`fit`, with classes that are there, unless they are to be filled in."""
        contexts = np.empty(symbols.size, np.uint8)
        lowest = fit_all(
            symbols,
            self.rows,
            self.width,
            self.row_classes,
            self.column_classes,
            self.elements,
            classifies,
            contexts,
        )
        return contexts, lowest

    def _classify_masked(self, symbols: ByteArray, mask: BoolArray) -> None:
        """As if what the mask leaves out were like the rest: no mean is above 127 then either."""
        row_sums, column_sums = self._sums(symbols[self.classes :])
        row_counts, column_counts = self._sums(mask.view(np.uint8))
        row_sums = _extrapolate(row_sums, row_counts, self.width)
        column_sums = _extrapolate(column_sums, column_counts, self.rows)
        row_classes, column_classes = self.split(symbols[: self.classes])
        classify(row_sums[: self.row_classes], self.width, row_classes)
        classify(column_sums[: self.column_classes], self.rows, column_classes)

    def _sums(self, symbols: ByteArray) -> tuple[IntArray, IntArray]:
        rows, columns = np.empty(self.rows, np.int32), np.empty(self.width, np.int32)
        sum_magnitudes(symbols, rows, columns)
        return rows, columns

    def class_contexts(self) -> ByteArray:
        """Contexts of the classes: uint8 [classes], not to be changed."""
        return _class_contexts(self.row_classes, self.column_classes)


@lru_cache(maxsize=16)
def _layout_of(shape: tuple[int, ...]) -> Layout:
    rows = shape[0] if len(shape) > 1 else 1
    width = math.prod(shape) // rows if rows else 0
    return Layout(
        rows=rows,
        width=width,
        row_classes=rows if rows > 1 and width >= FEWEST else 0,
        column_classes=width if width > 1 and rows >= FEWEST else 0,
    )


@lru_cache(maxsize=16)
def _class_contexts(rows: int, columns: int) -> ByteArray:
    contexts = np.repeat(np.array([ROW_CLASSES, COLUMN_CLASSES], np.uint8), (rows, columns))
    contexts.flags.writeable = False
    return contexts


def _extrapolate(sums: IntArray, counts: IntArray, full: int) -> IntArray:
    """What the sums of ``counts`` elements would be for ``full``; 0 for none."""
    return (sums.astype(np.int64) * full // np.maximum(counts, 1)).astype(np.int32)


@kernel("void(const u1[::1], i4[::1], i4[::1])")
def sum_magnitudes(symbols: ByteArray, row_sums: IntArray, column_sums: IntArray) -> None:
    """Set the sums of ``min(abs(k), 127)`` of the rows and of the columns of a matrix."""
    width = column_sums.size
    column_sums[:] = 0
    for r in range(row_sums.size):
        row = symbols[r * width : (r + 1) * width]
        total = np.int32(0)
        for j in range(width):
            magnitude = np.int32(np.int32(np.int32(row[j]) + np.int32(1)) >> 1)
            magnitude = min(magnitude, np.int32(127))
            total += magnitude
            column_sums[j] += magnitude
        row_sums[r] = total


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


@kernel("i8(u1[::1], i8, i8, i8, i8, i8, b1, u1[::1])")
def fit_all(
    symbols: ByteArray,
    rows: Scalar,
    width: Scalar,
    row_classes: Scalar,
    column_classes: Scalar,
    elements: Scalar,
    classifies: bool,
    contexts: ByteArray,
) -> Scalar:
    """What :meth:`Layout.fit` does, at once: a call takes longer than some of the parts.

    Args:
        symbols: uint8 [row_classes + column_classes + rows * width].
        rows: of the matrix.
        width: of the matrix.
        row_classes: ``rows`` or 0.
        column_classes: ``width`` or 0.
        elements: that are coded.
        classifies: whether the classes are to be filled in.
        contexts: of the symbols, filled.

    Returns:
        The sum of classes that context 0 stands for.
    """
    classes = row_classes + column_classes
    of_rows, of_columns = symbols[:row_classes], symbols[row_classes:classes]
    if classifies:
        row_sums, column_sums = np.empty(rows, np.int32), np.empty(width, np.int32)
        sum_magnitudes(symbols[classes:], row_sums, column_sums)
        classify(row_sums[:row_classes], width, of_rows)
        classify(column_sums[:column_classes], rows, of_columns)
    lowest = lowest_sum(of_rows, of_columns, elements)
    contexts[:row_classes] = ROW_CLASSES
    contexts[row_classes:classes] = COLUMN_CLASSES
    fill_contexts(of_rows, of_columns, width, lowest, contexts[classes:])
    return lowest


@kernel("void(const u1[::1], const u1[::1], u1[::1])")
def select(values: ByteArray, mask: ByteArray, selected: ByteArray) -> None:
    """Copy the values [n] where the mask is 1; ``selected`` has one more, of any value."""
    position = np.uint64(0)
    for i in range(values.size):
        # Storing always and moving sometimes avoids a branch that nobody can predict.
        selected[position] = values[i]
        position += np.uint64(mask[i])


@kernel("void(const u1[::1], const u1[::1], u1[::1])")
def restore(selected: ByteArray, mask: ByteArray, values: ByteArray) -> None:
    """Undo :func:`select`, with 0 where the mask is 0; ``selected`` has one more, of any value."""
    position = np.uint64(0)
    for i in range(values.size):
        values[i] = np.uint8(selected[position] * mask[i])
        position += np.uint64(mask[i])
