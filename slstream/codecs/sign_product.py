"""Signs of a matrix that are the product of a sign of its row and one of its column.

Where a network ends in one logit, the gradient of a sample is nearly a number times a vector that
all samples share: the error of the prediction says which way to go, the weights above say along
what. On the cut layers of binary classifiers this tells 97 to 99 % of the signs for one bit a row
and one a column, and signs are a quarter of what entropy-coded gradients take. With several classes
each has a vector of its own, and little is left to gain.

A row gets the sign with which it agrees most with a row of the largest class, and a column then the
one with which it agrees most with the rows: one turn of the power iteration for the leading
singular vectors, with signs in place of numbers. A second turn finds next to nothing more.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from slstream.codecs.kernel import Scalar, kernel
from slstream.codecs.scale_context import Layout

ByteArray = npt.NDArray[np.uint8]


def find(symbols: ByteArray, layout: Layout, classes: ByteArray) -> ByteArray | None:
    """The signs of the rows and then of the columns, 1 for negative: uint8 [classes].

    Args:
        symbols: of the elements, as :func:`slstream.codecs.quantiser.quantise_step` gives them.
        layout: of the matrix.
        classes: of rows and columns.

    Returns:
        ``None`` when there are not both, or they would cost as many bits as they save.
    """
    if not (layout.row_classes and layout.column_classes):
        return None
    signs = np.empty(layout.classes, np.uint8)
    largest_row = int(np.argmax(layout.split(classes)[0]))
    others, negative, against = follow(symbols, largest_row, *layout.split(signs))
    if others == 0:
        return None
    saved = others * (_entropy(negative / others) - _entropy(against / others))
    return signs if saved > signs.size else None


def _entropy(p: float) -> float:
    """Bits of a choice with the probabilities p and 1 - p."""
    return -sum(q * math.log2(q) for q in (p, 1.0 - p) if q > 0.0)


@kernel("UniTuple(i8, 3)(const u1[::1], i8, u1[::1], u1[::1])")
def follow(
    symbols: ByteArray, start: Scalar, row_signs: ByteArray, column_signs: ByteArray
) -> tuple[Scalar, Scalar, Scalar]:
    """Fill in the signs, 1 for negative, beginning with those of the row ``start``.

    Returns:
        How many elements are not 0, how many of them are negative, and how many have another sign
        than the product of their row's and their column's.
    """
    width = column_signs.size
    signs = np.empty(width, np.int32)
    for j in range(width):
        signs[j] = np.int32(1) - np.int32(np.int32(symbols[start * width + j]) & np.int32(1)) * 2
    sums = np.zeros(width, np.int32)
    values = np.empty(width, np.int32)
    for r in range(row_signs.size):
        row = symbols[r * width : (r + 1) * width]
        total = np.int32(0)
        for j in range(width):
            s = np.int32(row[j])
            values[j] = np.int32(s >> 1) ^ np.int32(-np.int32(s & np.int32(1)))
            total += values[j] * signs[j]
        row_signs[r] = np.uint8(total < 0)
        sign = np.int32(1) - np.int32(row_signs[r]) * np.int32(2)
        for j in range(width):
            sums[j] += values[j] * sign
    for j in range(width):
        column_signs[j] = np.uint8(sums[j] < 0)
    others, negative, against = np.int64(0), np.int64(0), np.int64(0)
    for r in range(row_signs.size):
        row = symbols[r * width : (r + 1) * width]
        one, two, three = np.int32(0), np.int32(0), np.int32(0)
        for j in range(width):
            odd = np.int32(np.int32(row[j]) & np.int32(1))
            other = np.int32(row[j] != 0)
            one += other
            two += odd
            three += np.int32(other & np.int32(odd ^ np.int32(row_signs[r] ^ column_signs[j])))
        others, negative, against = others + one, negative + two, against + three
    return others, negative, against


@kernel("void(u1[::1], const u1[::1], const u1[::1])")
def turn(symbols: ByteArray, row_signs: ByteArray, column_signs: ByteArray) -> None:
    """Change the sign of what the product says is negative; twice is not at all.

    The symbol 255 stands for what is not in the alphabet, and stays.
    """
    width = column_signs.size
    for r in range(row_signs.size):
        row = symbols[r * width : (r + 1) * width]
        for j in range(width):
            s = np.int32(row[j])
            inside = np.int32(np.int32(s != 0) & np.int32(s != 255))
            turned = np.int32(inside & np.int32(row_signs[r] ^ column_signs[j]))
            row[j] = np.uint8(np.int32(np.int32(s - inside) ^ turned) + inside)
