"""Which elements of a tensor a sparse codec keeps, and moving them out of and into place.

A tensor is seen as groups of equal width, one per row or one in all, of which each keeps the same
number of elements: how many follows from the shape, so both ends know it. A selection is a mask of
bytes (1 = kept) while encoding and a bitmap (most significant bit first) while decoding, where a
byte an element would be too much beside the values.

**Noise.** Element ``i`` draws 32 bits from the mixer of :mod:`slstream.codecs.quantiser`, under
keys of its own (:func:`selection_keys`): what is kept is independent of how it is rounded.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from slstream.codecs.contract import CodecContext, FloatArray, TensorSpec
from slstream.codecs.kernel import Scalar, kernel
from slstream.codecs.quantiser import noise_keys

ByteArray = npt.NDArray[np.uint8]
IntArray = npt.NDArray[np.int32]

_SELECTION = 0x5E1EC7ED5E1EC7ED
"""Flips the seed of a context for the noise of the selection; any other than 0 would do."""

_WIDE = 8192
"""Groups up to this many elements stay in the first cache, where one counts fastest."""

_BUCKETS = 2048
"""Of magnitudes by their upper 11 bits of 31."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Groups:
    """How many elements are kept of what; follows from the shape and the fraction."""

    count: int
    width: int
    """Elements of a group; at least 1."""
    kept: int
    """Kept elements of each group, 1 to ``width``."""
    values: TensorSpec
    """Shape of the kept elements: ``(rows, kept)``, or 1-D for a group in all."""

    @classmethod
    def of(cls, spec: TensorSpec, fraction: float, *, per_row: bool) -> Groups:
        """Groups of a tensor that is not empty; a 1-D tensor is one row.

        ``ceil(fraction * width)`` in exact decimals: 0.1 of 30 is 3, which it is not in floating
        point. All are kept where less than 1 in 32 would be left out: telling which would cost a
        decoder more memory than it may take.
        """
        count = spec.shape[0] if per_row and len(spec.shape) > 1 else 1
        width = spec.elements // count
        kept = math.ceil(Fraction(repr(fraction)) * width)
        if 32 * (width - kept) < width:
            kept = width
        shape = (count, kept) if per_row and len(spec.shape) > 1 else (kept,)
        return cls(count=count, width=width, kept=kept, values=TensorSpec(shape=shape))

    @property
    def elements(self) -> int:
        """Elements of the tensor."""
        return self.count * self.width

    @property
    def all_kept(self) -> bool:
        """Whether nothing is left out."""
        return self.kept == self.width


def inner_context(context: CodecContext) -> CodecContext:
    """For a codec of the kept elements: an activation of the whole tensor says nothing to it."""
    return CodecContext(seed=context.seed, counter=context.counter)


def selection_keys(context: CodecContext) -> tuple[int, int]:
    """Two 32-bit keys for the noise of a selection."""
    return noise_keys(CodecContext(seed=context.seed ^ _SELECTION, counter=context.counter))


@kernel("i8(const i4[::1], i4)")
def _count_from(magnitudes: IntArray, low: Scalar) -> Scalar:
    count = np.int32(0)
    for j in range(magnitudes.size):
        count = np.int32(count + np.int32(magnitudes[j] >= low))
    return count


@kernel("void(const i4[::1], i8, i8, u1[::1])")
def select_largest(bits: IntArray, width: Scalar, kept: Scalar, mask: ByteArray) -> None:
    """Mark the ``kept`` elements of largest ``abs(x)`` of each group; of equal ones the first.

    The threshold is found by bisection: 31 counts at most, about 12 on continuous data, of which
    each is whole-vector work. In a wide group a histogram of the exponents (and three bits of the
    mantissa) first leaves only the elements of one bucket to be searched.

    Args:
        bits: the tensor's bits, flat.
        width: elements of a group.
        kept: elements to mark in each group.
        mask: uint8 [n], set to 1 for the kept elements, else to 0.
    """
    magnitudes = np.empty(width, np.int32)
    candidates = np.empty(width + 1 if width > _WIDE else 0, np.int32)
    # Runs of equal elements, such as zeros, would wait for their own last store: four take turns.
    turns = np.empty(4 * _BUCKETS, np.int32)
    for first in range(0, bits.size, width):
        group = bits[first : first + width]
        for j in range(width):
            magnitudes[j] = group[j] & np.int32(0x7FFFFFFF)
        searched = magnitudes
        wanted = kept
        if width > _WIDE:
            turns[:] = 0
            for j in range(width):
                turns[(j & 3) * _BUCKETS + (magnitudes[j] >> 20)] += 1
            bucket = _BUCKETS
            inside = np.int64(0)
            while inside < wanted:
                wanted -= inside
                bucket -= 1
                inside = np.int64(0)
                for turn in range(4):
                    inside += turns[turn * _BUCKETS + bucket]
            found = np.int64(0)
            for j in range(width):
                # Storing always and moving sometimes avoids a branch that nobody can predict.
                candidates[found] = magnitudes[j]
                found += np.int64(magnitudes[j] >> 20 == bucket)
            searched = candidates[:found]
        smallest = np.int32(0x7FFFFFFF)
        largest = np.int32(0)
        for j in range(searched.size):
            smallest = min(smallest, searched[j])
            largest = max(largest, searched[j])
        low = np.int64(smallest)
        high = np.int64(largest) + 1
        at_least = np.int64(searched.size)  # searched elements from `low` on
        while high - low > 1 and at_least != wanted:
            middle = (low + high) >> 1
            count = _count_from(searched, middle)
            if count >= wanted:
                low = middle
                at_least = count
            else:
                high = middle
        row = mask[first : first + width]
        limit = np.int32(low if at_least == wanted else low + 1)
        for j in range(width):
            row[j] = np.uint8(magnitudes[j] >= limit)
        if at_least != wanted:  # some are equal to the threshold
            left = wanted - _count_from(searched, limit)
            for j in range(width):
                if left == 0:
                    break
                equal = np.int64(magnitudes[j] == low)
                row[j] |= np.uint8(equal)
                left -= equal


@kernel("u8(u4, u4, u4)")
def _noise(index: Scalar, key_0: Scalar, key_1: Scalar) -> Scalar:
    """32 uniform bits of one element; ``lowbias32`` as in :mod:`slstream.codecs.quantiser`."""
    x = np.uint32(index + key_0)
    x = np.uint32(x ^ (x >> np.uint32(16)))
    x = np.uint32(x * np.uint32(0x7FEB352D))
    x = np.uint32(x + key_1)
    x = np.uint32(x ^ (x >> np.uint32(15)))
    x = np.uint32(x * np.uint32(0x846CA68B))
    return np.uint64(np.uint32(x ^ (x >> np.uint32(16))))


@kernel("void(u1[::1], i8, i8, u8, u4, u4)")
def exchange(
    mask: ByteArray, width: Scalar, kept: Scalar, odds: Scalar, key_0: Scalar, key_1: Scalar
) -> None:
    """Give up each kept element with probability ``odds / 2**32`` for one that was not kept.

    The ones that come in are drawn without replacement, all with the same probability (selection
    sampling, D. Knuth, TAOCP 3.4.2 S). No more are given up than others exist.
    """
    for first in range(0, mask.size, width):
        row = mask[first : first + width]
        others = np.uint64(width - kept)
        given = np.uint64(0)
        # Who gives way and who comes in is not predictable: arithmetic keeps branches out.
        for j in range(width):
            gives = np.uint64(_noise(first + j, key_0, key_1) < odds) & np.uint64(row[j])
            gives &= np.uint64(given < others)
            row[j] = np.uint8(np.uint64(row[j]) + gives)
            given += gives
        for j in range(width):
            other = np.uint64(row[j] == 0)
            draw = np.uint64(_noise(first + j, key_0, key_1) * others) >> np.uint64(32)
            taken = np.uint64(draw < given) & other
            row[j] = np.uint8(np.uint64(row[j] == 1) | taken)
            given -= taken
            others -= other


@kernel("void(u1[::1], i8, i8, i8, u4, u4)")
def sample(
    bitmap: ByteArray, groups: Scalar, width: Scalar, kept: Scalar, key_0: Scalar, key_1: Scalar
) -> None:
    """Mark ``kept`` elements of each group, every set of them with the same probability.

    Selection sampling (D. Knuth, TAOCP 3.4.2 S); an element's probability is ``kept / width`` to
    within ``width * 2**-32``.

    Args:
        bitmap: zeros, uint8 [ceil(groups * width / 8)].
        groups: number of groups.
        width: elements of a group.
        kept: elements to mark in each group.
        key_0: noise key.
        key_1: noise key.
    """
    for g in range(groups):
        left = np.uint64(width)
        wanted = np.uint64(kept)
        for i in range(g * width, (g + 1) * width):
            draw = np.uint64(_noise(i, key_0, key_1) * left) >> np.uint64(32)
            taken = np.uint64(draw < wanted)
            bitmap[i >> 3] |= np.uint8(taken << np.uint64(7 - (i & 7)))
            wanted -= taken
            left -= np.uint64(1)


@kernel("void(const f4[::1], const u1[::1], f4[::1])")
def gather(x: FloatArray, mask: ByteArray, values: FloatArray) -> None:
    """Copy the kept elements in order; ``values`` has one more than there are, of any value."""
    position = np.int64(0)
    for i in range(x.size):
        values[position] = x[i]
        position += np.int64(mask[i])


@kernel("void(const f4[::1], const u1[::1], f4, f4[::1])")
def scatter(values: FloatArray, bitmap: ByteArray, scale: Scalar, out: FloatArray) -> None:
    """Put ``values * scale`` where the bitmap has ones and 0 elsewhere.

    Args:
        values: float32 [v]; more ones than values put the last one again, or 0 if there is none.
        bitmap: uint8 [ceil(n / 8)].
        scale: factor of all values.
        out: float32 [n].
    """
    if values.size == 0:
        out[:] = 0
        return
    position = np.int64(0)
    last = np.int64(values.size - 1)
    for i in range(out.size):
        kept = np.int64((bitmap[i >> 3] >> np.uint8(7 - (i & 7))) & np.uint8(1))
        value = values[min(position, last)] * scale
        out[i] = value if kept != 0 else np.float32(0)
        position += kept
