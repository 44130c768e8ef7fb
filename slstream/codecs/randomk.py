"""``randomk``: random elements, coded by another codec; all others become 0.

Which ones follows from the context (:mod:`slstream.codecs.kept_elements`), which both ends have:
their places cost no bytes.

Forms after the raw one (:mod:`slstream.codecs.payload`):

    offset  size  field
    0       1     1 (SAMPLED)
    1       ...   the kept elements in order, not scaled, as the inner codec encodes them: a
                  tensor of (rows, kept); 1-D for a 1-D tensor

    0       1     2 (ZERO): every element is 0; nothing follows
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from slstream.codecs import quantiser
from slstream.codecs.contract import Buffer, CodecContext, FloatArray, TensorCodec, TensorSpec
from slstream.codecs.kept_elements import (
    Groups,
    gather,
    inner_context,
    sample,
    scatter,
    selection_keys,
)
from slstream.codecs.parameters import require_codec, require_flag, require_number
from slstream.codecs.payload import (
    RAW,
    check_tensor,
    decode_raw,
    encode_raw,
    expect_length,
    form_of,
    not_finite,
)
from slstream.codecs.row_integers import Q8Row
from slstream.errors import DecodeError

_SAMPLED = 1
_ZERO = 2

_LARGEST = 2.0**120
"""Tensors with an element that would be scaled above this go raw: no product leaves float32."""


def _unbiased_values() -> TensorCodec:
    return Q8Row(rounding="stochastic")


@dataclass(frozen=True, slots=True)
class RandomK(TensorCodec):
    """``ceil(fraction * width)`` random elements of each row, each set with the same probability.

    Scaled and with stochastic rounding inside it is unbiased: the mean over many contexts is the
    element. The price is noise: the error has ``width / kept - 1`` times the energy of the tensor,
    which is 0 dB for 50 %, 6 dB above it for 20 %, 10 for 10 %, 20 for 1 %. ``ecsq`` with
    stochastic rounding is unbiased too, with 20 dB less noise or better in as many bits. Not
    scaled, the mean is too small by ``kept / width``, and the error ``1 - kept / width`` of the
    energy.

    Bits per element, 512 x 256: ``fraction`` times those of the codec inside. With q8row 4.06 for
    50 %, 1.69 for 20 %, 0.88 for 10 %, 0.16 for 1 %, of which 0.06 are scales of rows; with a
    stochastic ``ecsq(step=1.5)`` 0.10 for 10 % of activations and 0.06 of gradients, with 0.8 dB
    more noise. Encoding runs as fast as ``ecsq``, decoding at 0.7 of its speed.

    Attributes:
        fraction: share of the elements that is kept, 0.001 to 1; all are where less than 1 in 32
            would be left out. Rows are the batch dimension; a 1-D tensor is one row.
        scaled: whether kept elements decode to ``width / kept`` times themselves, which makes
            the mean right; else they keep their size and the mean is too small by that factor.
        values: codec of the kept elements; one that rounds to nearest has a bias of its own.
    """

    id: ClassVar[str] = "randomk"

    fraction: float = 0.1
    scaled: bool = True
    values: TensorCodec = field(default_factory=_unbiased_values)

    def __post_init__(self) -> None:
        """Refuse parameters out of range."""
        require_number(self, "fraction", 0.001, 1.0)
        require_flag(self, "scaled")
        require_codec(self, "values")

    def encode(self, tensor: FloatArray, context: CodecContext) -> bytes:
        """See the class; refuses NaN and Inf."""
        array = check_tensor(tensor, self.id)
        flat = array.reshape(-1)
        maximum = np.zeros(1, np.int32)
        quantiser.row_maxima(flat.view(np.int32), flat.size, maximum)
        if maximum[0] >= quantiser.INFINITE:
            raise not_finite(array, self.id)
        if maximum[0] == 0:
            return bytes([_ZERO])
        groups = self._groups(TensorSpec(shape=array.shape))
        if float(maximum.view(np.float32)[0]) * self._scale(groups) > _LARGEST:
            return encode_raw(array)
        mask = np.unpackbits(_bitmap(groups, context), count=flat.size)
        kept = np.empty(groups.values.elements + 1, np.float32)
        gather(flat, mask, kept)
        values = self.values.encode(kept[:-1].reshape(groups.values.shape), inner_context(context))
        return bytes([_SAMPLED]) + values if len(values) < array.nbytes else encode_raw(array)

    def decode(self, data: Buffer, spec: TensorSpec, context: CodecContext) -> FloatArray:
        """See the class."""
        form = form_of(data, self.id)
        if form == RAW:
            return decode_raw(data, spec, self.id)
        if form == _ZERO:
            expect_length(data, 1, spec, self.id)
            return np.zeros(spec.shape, np.float32)
        if form != _SAMPLED or spec.elements == 0:
            raise DecodeError(
                f"codec {self.id!r}: expected form 0, 1 or 2, 0 or 2 if there are no elements; "
                f"got {form} for shape {spec.shape}"
            )
        groups = self._groups(spec)
        values = self.values.decode(memoryview(data)[1:], groups.values, inner_context(context))
        if groups.all_kept:
            return values.reshape(spec.shape)
        out = np.empty(spec.elements, np.float32)
        scatter(values.reshape(-1), _bitmap(groups, context), self._scale(groups), out)
        return out.reshape(spec.shape)

    def _groups(self, spec: TensorSpec) -> Groups:
        return Groups.of(spec, self.fraction, per_row=True)

    def _scale(self, groups: Groups) -> float:
        return groups.width / groups.kept if self.scaled else 1.0


def _bitmap(groups: Groups, context: CodecContext) -> npt.NDArray[np.uint8]:
    """The kept elements, uint8 [ceil(n / 8)]."""
    bitmap = np.zeros(-(-groups.elements // 8), np.uint8)
    sample(bitmap, groups.count, groups.width, groups.kept, *selection_keys(context))
    return bitmap
