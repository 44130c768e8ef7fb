"""Which elements of a matrix are kept, as few bytes: a bitmap, gaps, or a modelled bitmap.

How many each group of a tensor keeps is known (:class:`slstream.codecs.kept_elements.Groups`), so
only the places cross. Three forms compete, and the smallest is taken:

    BITMAP    ceil(n / 8) bytes, most significant bit first, the last filled up with zeros.
    GAPS      u32   number of symbols s
              u8    shift b
              ...   s symbols, entropy coded (:mod:`slstream.codecs.rans`, 1 context)
              ...   b bits of each gap in order, most significant first, filled up to a byte
              A gap is the number of elements left out since the last that was kept in its group.
              Symbols of a gap: ``gap >> b`` in units of 255, one symbol 255 each, and the rest.
    MODELLED  u8    the sum of classes of context 0
              ...   classes of the rows and columns, then 1 or 0 for each element, entropy coded in
                    the contexts of :mod:`slstream.codecs.scale_context`; a row or column has the
                    class of 64 times the share of its elements that are kept

Gaps are within a few percent of the entropy of places that are uniform: 4.7 bits a kept element
at 1 in 10, 8.1 at 1 in 100. Places of activations are not, as some columns are larger than others:
modelled, they cost a third less.
"""

from __future__ import annotations

import struct
from typing import Final

import numpy as np
import numpy.typing as npt

from slstream.codecs import rans, scale_context
from slstream.codecs.contract import TensorSpec
from slstream.codecs.kept_elements import Groups
from slstream.codecs.kernel import Scalar, kernel
from slstream.codecs.scale_context import Layout
from slstream.errors import DecodeError

BITMAP: Final = 1
GAPS: Final = 2
MODELLED: Final = 3

FORMS: Final = (BITMAP, GAPS, MODELLED)

_GAPS_HEADER = struct.Struct("<IB")
_WHOLE = 255
"""Symbol of a gap for 255 units and more to come."""

_WIDE_GAP = 16
"""Where the mean gap is less, all bits of a gap are worth an entropy coder."""

_SHARE = 64
"""Classes tell apart shares of 1 / 64 / 64 and more."""

ByteArray = npt.NDArray[np.uint8]
IntArray = npt.NDArray[np.int32]


def encode_indices(mask: ByteArray, groups: Groups, spec: TensorSpec) -> tuple[int, bytes]:
    """The form that takes the fewest bytes, and these; none where everything is kept.

    Args:
        mask: uint8 [n], 1 for kept elements, ``groups.kept`` in each group.
        groups: the groups of the tensor.
        spec: shape of the tensor, not empty.
    """
    if groups.all_kept:
        return BITMAP, b""
    forms = {
        BITMAP: np.packbits(mask).tobytes(),
        GAPS: _encode_gaps(mask, groups),
        MODELLED: _encode_modelled(mask, Layout.of(spec)),
    }
    return min(forms.items(), key=lambda form: len(form[1]))


def decode_indices(
    form: int, data: ByteArray, groups: Groups, spec: TensorSpec
) -> tuple[ByteArray, int]:
    """Read foreign bytes.

    Args:
        form: one of ``FORMS``.
        data: the indices, and whatever follows.
        groups: the groups of the tensor.
        spec: shape of the tensor, not empty.

    Returns:
        Bitmap of the kept elements, uint8 [ceil(n / 8)], most significant bit first, and the number
        of bytes of ``data`` that it took.

    Raises:
        DecodeError: not places of exactly ``groups.kept`` elements in each group.
    """
    if groups.all_kept:
        return np.packbits(np.ones(groups.elements, np.bool_)), 0
    if form == GAPS:
        return _decode_gaps(data, groups)
    if form == MODELLED:
        mask, used = _decode_modelled(data, Layout.of(spec))
        bitmap = np.packbits(mask)
    else:
        used = -(-groups.elements // 8)
        bitmap = data[:used].copy()
        if bitmap.size < used:
            raise DecodeError(f"expected a bitmap of {used} bytes, got {bitmap.size}")
        mask = np.unpackbits(bitmap, count=groups.elements)
        if 8 * used > groups.elements and bitmap[-1] & ((1 << (8 * used - groups.elements)) - 1):
            raise DecodeError("expected a bitmap filled up with zeros; its last byte is not")
    kept = np.count_nonzero(mask.reshape(groups.count, groups.width), axis=1)
    if np.any(kept != groups.kept):
        wrong = int(np.argmax(kept != groups.kept))
        raise DecodeError(
            f"expected {groups.kept} of {groups.width} elements kept in each of {groups.count} "
            f"groups; group {wrong} has {int(kept[wrong])}"
        )
    return bitmap, used


def _encode_gaps(mask: ByteArray, groups: Groups) -> bytes:
    gaps = np.empty(groups.count * groups.kept + 1, np.int32)
    measure_gaps(mask, groups.width, gaps)
    gaps = gaps[:-1]
    shift = _best_shift(gaps, groups.elements // gaps.size)
    units = gaps >> shift
    symbols = units.astype(np.uint8)
    if units.max() >= _WHOLE:
        whole = units // _WHOLE
        ends = np.cumsum(whole + 1) - 1
        symbols = np.full(int(ends[-1]) + 1, _WHOLE, np.uint8)
        symbols[ends] = units - whole * _WHOLE
    contexts = np.zeros(symbols.size, np.uint8)
    places = np.arange(shift - 1, -1, -1, dtype=np.int32)
    return b"".join(
        (
            _GAPS_HEADER.pack(symbols.size, shift),
            rans.encode(symbols, contexts, (symbols.size,), 1),
            np.packbits((gaps[:, None] >> places & 1).astype(np.bool_)).tobytes(),
        )
    )


def _best_shift(gaps: IntArray, mean: int) -> int:
    """The shift that promises the fewest bits, where symbols cost their entropy and 6 in a table.

    Low bits of wide gaps are noise, and a table for 255 symbols may cost more than the symbols.
    """
    largest = _largest_shift(mean)
    if largest == 0:
        return 0
    costs = []
    for shift in range(largest + 1):
        counts = np.bincount((gaps >> shift) % _WHOLE).astype(np.float64)
        counts = counts[counts > 0]
        entropy = np.sum(counts * np.log2(gaps.size / counts))
        costs.append(shift * gaps.size + entropy + 6 * counts.size)
    return int(np.argmin(costs))


def _largest_shift(mean: int) -> int:
    """Larger shifts than this do not pay; so few low bits cannot fill a decoder's memory either."""
    return mean.bit_length() - 1 if mean >= _WIDE_GAP else 0


def _decode_gaps(data: ByteArray, groups: Groups) -> tuple[ByteArray, int]:
    kept = groups.count * groups.kept
    if data.size < _GAPS_HEADER.size:
        raise DecodeError(f"expected gaps of kept elements, got {data.size} bytes")
    count, shift = _GAPS_HEADER.unpack(data[: _GAPS_HEADER.size].tobytes())
    most = kept + groups.elements // _WHOLE
    if not kept <= count <= most or shift > _largest_shift(groups.elements // kept):
        raise DecodeError(
            f"expected {kept} to {most} symbols of gaps and a shift of at most "
            f"{_largest_shift(groups.elements // kept)}; got {count} and {shift}"
        )
    body = data[_GAPS_HEADER.size :]
    decoder = rans.Decoder(body, 1, count)
    symbols = decoder.decode(np.zeros(count, np.uint8))
    used = decoder.finish()
    low = body[used : used + -(-kept * shift // 8)]
    bitmap = np.zeros(-(-groups.elements // 8), np.uint8)
    if low.size != -(-kept * shift // 8) or not place_gaps(
        symbols, low, shift, groups.width, groups.kept, groups.elements, bitmap
    ):
        raise DecodeError(
            f"expected the gaps of {groups.kept} kept elements in each of {groups.count} groups of "
            f"{groups.width}; the symbols lead elsewhere"
        )
    return bitmap, _GAPS_HEADER.size + used + low.size


def _encode_modelled(mask: ByteArray, layout: Layout) -> bytes:
    rows, columns = np.empty(layout.rows, np.int32), np.empty(layout.width, np.int32)
    scale_context.sum_magnitudes(mask, rows, columns)
    symbols = np.empty(layout.classes + mask.size, np.uint8)
    symbols[layout.classes :] = mask
    of_rows = symbols[: layout.row_classes]
    of_columns = symbols[layout.row_classes : layout.classes]
    scale_context.classify(_SHARE * rows[: of_rows.size], layout.width, of_rows)
    scale_context.classify(_SHARE * columns[: of_columns.size], layout.rows, of_columns)
    contexts, lowest = layout.contexts_of(symbols)
    spans = (layout.classes, mask.size)
    return bytes([lowest]) + rans.encode(symbols, contexts, spans, scale_context.ALL_CONTEXTS)


def _decode_modelled(data: ByteArray, layout: Layout) -> tuple[ByteArray, int]:
    """A mask, uint8 [n] of 0 and 1, and the bytes that it took."""
    if data.size == 0:
        raise DecodeError("expected a modelled bitmap, got 0 bytes")
    elements = layout.rows * layout.width
    decoder = rans.Decoder(data[1:], scale_context.ALL_CONTEXTS, layout.classes + elements)
    classes = decoder.decode(layout.class_contexts())
    contexts = np.empty(elements, np.uint8)
    scale_context.fill_contexts(
        classes[: layout.row_classes],
        classes[layout.row_classes :],
        layout.width,
        int(data[0]),
        contexts,
    )
    mask = decoder.decode(contexts)
    if np.any(mask > 1):
        raise DecodeError(f"expected 0 or 1 for each element, got {int(mask.max())}")
    return mask, 1 + decoder.finish()


@kernel("void(const u1[::1], i8, i4[::1])")
def measure_gaps(mask: ByteArray, width: Scalar, gaps: IntArray) -> None:
    """Elements left out before each kept one since the last, or since its group began.

    Args:
        mask: uint8 [n] of 0 and 1.
        width: elements of a group.
        gaps: int32, one more than there are kept elements, of any value.
    """
    position = np.int64(0)
    for first in range(0, mask.size, width):
        gap = np.int32(0)
        for j in range(first, first + width):
            gaps[position] = gap
            position += np.int64(mask[j])
            gap = np.int32(0) if mask[j] != 0 else np.int32(gap + np.int32(1))


@kernel("b1(const u1[::1], const u1[::1], i8, i8, i8, i8, u1[::1])")
def place_gaps(
    symbols: ByteArray,
    low: ByteArray,
    shift: Scalar,
    width: Scalar,
    kept: Scalar,
    elements: Scalar,
    bitmap: ByteArray,
) -> bool:
    """Set the bits of the elements that gaps lead to; the symbols are foreign.

    Args:
        symbols: uint8 [s].
        low: low bits, ``shift`` for each gap that the symbols may stand for.
        shift: number of low bits.
        width: elements of a group.
        kept: gaps of a group.
        elements: elements in all.
        bitmap: zeros, uint8 [ceil(elements / 8)].

    Returns:
        Whether the symbols led to ``kept`` elements inside each group and then ended.
    """
    gap = np.int64(0)
    first = np.int64(0)  # of the group
    position = np.int64(0)  # first element that may come
    left = kept
    bit = np.int64(0)
    for s in range(symbols.size):
        gap += symbols[s]
        if symbols[s] == _WHOLE:
            continue
        for _ in range(shift):
            gap = gap << 1 | ((low[bit >> 3] >> (7 - (bit & 7))) & 1)
            bit += 1
        position += gap
        if first == elements or position >= first + width:
            return False
        bitmap[position >> 3] |= np.uint8(0x80 >> (position & 7))
        position += 1
        gap = np.int64(0)
        left -= 1
        if left == 0:
            first += width
            position = first
            left = kept
    return bool(first == elements and gap == 0)
