"""``kmeans``: each element becomes one of a few levels, which are fitted to the tensor's values.

As S. Han et al. compress weights (2015, arXiv:1510.00149), with levels by k-means
(:mod:`slstream.codecs.levels`). The indices are entropy coded in the contexts of
:mod:`slstream.codecs.scale_context`, or packed where that is smaller.

Forms after the raw one (:mod:`slstream.codecs.payload`):

    offset  size  field
    0       1     1 (CODED)
    1       1     number of levels, less 1
    2       4m    the m levels, float32 little-endian; in order of abs(level) as written
    2 + 4m  1     the sum of classes of context 0
    ...     ...   indices of levels (:mod:`slstream.codecs.rans`)

    0       1     2 (PACKED)
    1       1     number of levels, less 1
    2       4m    the m levels
    2 + 4m  ...   indices in b = 0, 1, 2, 4 or 8 bits, the fewest for m levels; ceil(n * b / 8)
                  bytes, of which byte j holds the elements j, j + size, j + 2 * size, ...,
                  the first in its lowest bits
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from slstream.codecs import rans, scale_context
from slstream.codecs.contract import Buffer, CodecContext, FloatArray, TensorCodec, TensorSpec
from slstream.codecs.levels import choose, fit
from slstream.codecs.look_up import look_up
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
from slstream.codecs.scale_context import Layout
from slstream.errors import DecodeError

ByteArray = npt.NDArray[np.uint8]

_CODED = 1
_PACKED = 2

_HEADER_BYTES = 2


@dataclass(frozen=True, slots=True)
class KMeans(TensorCodec):
    """The nearest of a few levels, or one of its two neighbours at random.

    Bits per element: at most ``log2(levels)`` rounded up to 1, 2, 4 or 8, plus 32 a level; fewer
    where levels differ in how often they are used. 16 levels take about 1.9 bits for activations
    and 0.5 to 0.9 for gradients, at 21 and 11 to 14 dB; ``ecsq`` is as exact in 1.6 and 0.2 to 0.4,
    as its steps are equal, which entropy coding likes better. So this is for values that come in a
    few clusters, or for a decoder that must give one of a few values.

    The error of an element is its distance to the nearest level with ``nearest``, below the
    distance of the two levels around it with ``stochastic``, which is unbiased to 2**-17 of this
    distance. A tensor of up to 16384 elements with no more distinct values than levels is exact; so
    is a constant one of any size. 0.0 is a level whenever the tensor holds a zero.

    Attributes:
        levels: 2 to 256; 3 or more with ``stochastic``, which needs the extremes beside a zero.
        rounding: ``nearest`` for activations; biased, so for gradients ``stochastic``.
    """

    id: ClassVar[str] = "kmeans"

    levels: int = 16
    rounding: str = "nearest"

    def __post_init__(self) -> None:
        """Refuse parameters out of range."""
        require_choice(self, "rounding", ("nearest", "stochastic"))
        require_integer(self, "levels", 3 if self.rounding == "stochastic" else 2, 256)

    def encode(self, tensor: FloatArray, context: CodecContext) -> bytes:
        """See the class; refuses NaN and Inf."""
        array = check_tensor(tensor, self.id)
        flat = array.reshape(-1)
        if flat.size == 0:
            return encode_raw(array)
        if not np.isfinite(flat.min()) or not np.isfinite(flat.max()):
            raise not_finite(array, self.id)
        stochastic = self.rounding == "stochastic"
        levels = fit(flat, self.levels, cover=stochastic)
        order = np.argsort(np.abs(levels), kind="stable")
        ranks = np.empty(levels.size, np.uint8)
        ranks[order] = np.arange(levels.size)
        symbols = choose(flat, levels, ranks, context if stochastic else None)

        head = bytes((levels.size - 1,)) + levels[order].astype("<f4").tobytes()
        bodies = {_PACKED: _pack(symbols, levels.size)}
        if levels.size > 1:
            bodies[_CODED] = _code(symbols, Layout.of(TensorSpec(shape=array.shape)))
        form = min(bodies, key=lambda form: len(bodies[form]))
        data = bytes((form,)) + head + bodies[form]
        return data if len(data) <= array.nbytes else encode_raw(array)

    def decode(self, data: Buffer, spec: TensorSpec, context: CodecContext) -> FloatArray:
        """See the class."""
        form = form_of(data, self.id)
        if form == RAW:
            return decode_raw(data, spec, self.id)
        if form not in (_CODED, _PACKED):
            raise DecodeError(f"codec {self.id!r}: expected form 0, 1 or 2, got {form}")
        levels = self._read_levels(data)
        start = _HEADER_BYTES + 4 * levels.size
        body = as_bytes(data)[start:]
        if form == _PACKED:
            expect_length(data, start + _packed_bytes(spec.elements, levels.size), spec, self.id)
            symbols = _unpack(body, spec.elements, levels.size)
        else:
            symbols = _decode_symbols(body, Layout.of(spec))
        if int(symbols.max(initial=0)) >= levels.size:
            raise DecodeError(
                f"codec {self.id!r}: expected indices of {levels.size} levels, got {symbols.max()}"
            )
        out = np.empty(spec.elements, np.float32)
        look_up(symbols, out.size, np.ones(1, np.float32), levels, out)
        return out.reshape(spec.shape)

    def _read_levels(self, data: Buffer) -> FloatArray:
        """The levels, in the order of their indices.

        Raises:
            DecodeError: not as many as announced, more than this codec has, NaN or Inf.
        """
        if len(data) < _HEADER_BYTES:
            raise DecodeError(
                f"codec {self.id!r}: expected a number of levels, got {len(data)} bytes"
            )
        count = memoryview(data)[1] + 1
        if count > self.levels or len(data) < _HEADER_BYTES + 4 * count:
            raise DecodeError(
                f"codec {self.id!r}: expected at most {self.levels} levels of 4 bytes, "
                f"got {count} in {len(data)} bytes"
            )
        levels = np.frombuffer(data, "<f4", count, _HEADER_BYTES).astype(np.float32)
        if not np.all(np.isfinite(levels)):
            raise DecodeError(f"codec {self.id!r}: the bytes hold NaN or Inf")
        return levels


def _code(symbols: ByteArray, layout: Layout) -> bytes:
    """Entropy code indices, in contexts that take them for magnitudes: levels are in that order."""
    symbols = np.concatenate((np.empty(layout.classes, np.uint8), symbols))
    contexts, lowest = layout.fit(symbols)
    spans = (layout.classes, layout.elements)
    return bytes((lowest,)) + rans.encode(symbols, contexts, spans, scale_context.ALL_CONTEXTS)


def _decode_symbols(body: ByteArray, layout: Layout) -> ByteArray:
    """Undo :func:`_code`; nothing may follow.

    Raises:
        DecodeError: other bytes than :func:`_code` writes for this layout.
    """
    if body.size == 0:
        raise DecodeError("codec 'kmeans': expected coded indices, got 0 bytes")
    count = layout.classes + layout.elements
    decoder = rans.Decoder(body[1:], scale_context.ALL_CONTEXTS, count)
    row_classes, column_classes = layout.split(decoder.decode(layout.class_contexts()))
    contexts = np.empty(layout.elements, np.uint8)
    scale_context.fill_contexts(row_classes, column_classes, layout.width, int(body[0]), contexts)
    symbols = decoder.decode(contexts)
    surplus = body.size - 1 - decoder.finish()
    if surplus != 0:
        raise DecodeError(
            f"codec 'kmeans': expected nothing after the indices, got {surplus} bytes"
        )
    return symbols


def _index_bits(count: int) -> int:
    """Bits of a packed index of ``count`` levels: 0, 1, 2, 4 or 8."""
    bits = (count - 1).bit_length()
    return bits if bits <= 2 else 4 if bits <= 4 else 8


def _packed_bytes(elements: int, count: int) -> int:
    return -(-elements * _index_bits(count) // 8)


def _pack(symbols: ByteArray, count: int) -> bytes:
    """Indices of ``count`` levels, packed."""
    bits = _index_bits(count)
    if bits == 0:
        return b""
    planes = np.zeros((8 // bits, _packed_bytes(symbols.size, count)), np.uint8)
    planes.reshape(-1)[: symbols.size] = symbols
    shifts = np.arange(0, 8, bits, dtype=np.uint8)[:, None]
    packed: ByteArray = np.bitwise_or.reduce(planes << shifts, axis=0)
    return packed.tobytes()


def _unpack(packed: ByteArray, elements: int, count: int) -> ByteArray:
    """Undo :func:`_pack`: uint8 [elements]."""
    bits = _index_bits(count)
    if bits == 0:
        return np.zeros(elements, np.uint8)
    shifts = np.arange(0, 8, bits, dtype=np.uint8)[:, None]
    planes = packed >> shifts & np.uint8((1 << bits) - 1)
    return planes.reshape(-1)[:elements]
