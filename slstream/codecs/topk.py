"""``topk``: the elements of largest magnitude, coded by another codec; all others become 0.

Forms after the raw one (:mod:`slstream.codecs.payload`):

    offset  size  field
    0       1     1 (BITMAP), 2 (GAPS) or 3 (MODELLED): how the places of kept elements are coded
    1       ...   the places (:mod:`slstream.codecs.sparse_indices`); none where all are kept
    ...     ...   the kept elements in order, as the inner codec encodes them: a tensor of
                  (rows, kept), so that rows keep scales of their own; 1-D for a tensor as a whole

    0       1     4 (ZERO): every element is 0; nothing follows
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
    scatter,
    select_largest,
)
from slstream.codecs.parameters import require_choice, require_codec, require_number
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
from slstream.codecs.row_integers import Q8Row
from slstream.codecs.sparse_indices import FORMS, decode_indices, encode_indices
from slstream.errors import DecodeError

_ZERO = 4

ByteArray = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class TopK(TensorCodec):
    """The ``ceil(fraction * width)`` elements of largest ``abs(x)`` of each row, or of the tensor.

    Of equal ones the first are kept, so the choice is the same everywhere.

    Biased: a kept element has the error of the codec inside, all others become 0, and with them
    their share of every mean. No other choice of as many elements leaves out less energy. Made for
    activations; for gradients only with ``per="tensor"``, where it keeps the rows that matter.
    What is trained through a top-k must be validated and used through one of the same fraction.

    Bits per element and signal to noise, 512 x 256, q8row / ecsq with a step of 0.5 inside:

        kept    activations, per row         gradients, per tensor
        50 %    4.93, 42.7 dB / 1.92, 17.0   4.49, 23.5 dB / 1.15, 19.6
        20 %    2.24, 14.6 dB / 0.87, 12.8   1.90, 23.5 dB / 0.66, 16.9
        10 %    1.20,  9.0 dB / 0.49,  8.5   1.00, 21.6 dB / 0.41, 15.0
         5 %    0.65,  5.9 dB / 0.27,  5.7   0.52, 17.4 dB / 0.24, 13.2
         1 %    0.21,  2.6 dB / 0.08,  2.6   0.11, 10.5 dB / 0.06,  9.6

    ``ecsq`` alone gets as much out of a bit for activations (0.51 bits at 8.8 dB) and more for
    gradients (0.16 bits at 13.7 dB). Encoding runs at 0.4 to 0.5 of the speed of ``ecsq``,
    decoding at 0.5 to 1.5.

    Attributes:
        fraction: share of the elements that is kept, 0.001 to 1; all are where less than 1 in 32
            would be left out.
        per: ``row`` or ``tensor``. Rows are the batch dimension; a 1-D tensor is one row.
        values: codec of the kept elements.
    """

    id: ClassVar[str] = "topk"

    fraction: float = 0.1
    per: str = "row"
    values: TensorCodec = field(default_factory=Q8Row)

    def __post_init__(self) -> None:
        """Refuse parameters out of range."""
        require_number(self, "fraction", 0.001, 1.0)
        require_choice(self, "per", ("row", "tensor"))
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
        spec = TensorSpec(shape=array.shape)
        groups = self._groups(spec)
        mask = self._select(flat, groups, context)
        form, indices = encode_indices(mask, groups, spec)
        kept = np.empty(groups.values.elements + 1, np.float32)
        gather(flat, mask, kept)
        values = self.values.encode(kept[:-1].reshape(groups.values.shape), inner_context(context))
        if 1 + len(indices) + len(values) > array.nbytes:
            return encode_raw(array)
        return b"".join((bytes([form]), indices, values))

    def decode(self, data: Buffer, spec: TensorSpec, context: CodecContext) -> FloatArray:
        """See the class."""
        form = form_of(data, self.id)
        if form == RAW:
            return decode_raw(data, spec, self.id)
        if form == _ZERO:
            expect_length(data, 1, spec, self.id)
            return np.zeros(spec.shape, np.float32)
        if form not in FORMS or spec.elements == 0:
            raise DecodeError(
                f"codec {self.id!r}: expected form 0 to 4, 0 or 4 if there are no elements; "
                f"got {form} for shape {spec.shape}"
            )
        groups = self._groups(spec)
        bitmap, used = decode_indices(form, as_bytes(data)[1:], groups, spec)
        # The bitmap is all that lies beside what the inner codec needs.
        values = self.values.decode(
            memoryview(data)[1 + used :], groups.values, inner_context(context)
        )
        if groups.all_kept:
            return values.reshape(spec.shape)
        out = np.empty(spec.elements, np.float32)
        scatter(values.reshape(-1), bitmap, 1.0, out)
        return out.reshape(spec.shape)

    def _groups(self, spec: TensorSpec) -> Groups:
        return Groups.of(spec, self.fraction, per_row=self.per == "row")

    def _select(self, flat: FloatArray, groups: Groups, context: CodecContext) -> ByteArray:
        """Mask of the kept elements, uint8 [n]; ``groups.kept`` in each group."""
        mask = np.empty(flat.size, np.uint8)
        select_largest(flat.view(np.int32), groups.width, groups.kept, mask)
        return mask
