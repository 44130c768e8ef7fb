"""``delta``: how each row has changed since it was sent last, rotated as in ``klt``.

The activation of a sample changes little from one epoch to the next, and what changes is the same
few directions for all of them. Both ends remember the last decoded value of every row
(:mod:`slstream.codecs.remembered_rows`); a frame holds the difference from it, in a basis of its
own (:mod:`slstream.codecs.rotated_codes`), and its decoded value is what is remembered next. So an
error that rounding makes is part of the next difference (P. Richtárik et al., EF21, 2021,
arXiv:2106.05203; for activations J. Wang et al., AQ-SGD, 2022, arXiv:2206.01299).

    offset  size  field
    0       1     1, +2 with a new basis (REPLACED), +4 without predictions (KEY)
    1       ...   the body; its check covers what is remembered of the tensor's rows too

The unit of what is remembered is ``2**e`` of the body's step ``m * 2**e``: 1/16 to 1/32 of a step.
A row that was never sent is predicted as 0. When the predictions of a tensor are worse than none at
all, it is sent without them.

The raw form is that of :mod:`slstream.codecs.stateful_payload`; rows that were sent raw are
forgotten.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from slstream.codecs import quantiser
from slstream.codecs.adaptive_codes import CodeArray
from slstream.codecs.contract import (
    Buffer,
    CodecContext,
    CodecState,
    FloatArray,
    RowArray,
    StateSpec,
    TensorCodec,
    TensorSpec,
)
from slstream.codecs.parameters import require_integer, require_number
from slstream.codecs.payload import RAW, check_tensor, form_of
from slstream.codecs.remembered_rows import RememberedRows
from slstream.codecs.rotated_codes import BodyWriter, FineRows, Rotation, Step, read_body
from slstream.codecs.stateful_payload import (
    can_be_coded,
    check_width,
    decode_raw,
    encode_raw,
    magnitudes,
    missing_state,
)
from slstream.errors import CodecError, DecodeError, EncodeError

_CODED, _REPLACED, _KEY = 1, 2, 4


class DeltaState(CodecState):
    """The rows of the session, the basis of their changes, what the entropy coder has learnt."""

    __slots__ = ("remembered", "rotation")

    def __init__(self, spec: StateSpec) -> None:
        """Before the first tensor."""
        self.rotation = Rotation(math.prod(spec.row_shape))
        self.remembered = RememberedRows(spec, self.rotation.width)

    def arrays(self) -> Mapping[str, npt.NDArray[Any]]:
        """See the contract."""
        return {**self.rotation.arrays(), **self.remembered.arrays()}

    def check(self, rows: RowArray) -> int:
        """What a tensor of these rows depends on, in 32 bits."""
        return self.remembered.checksum(rows, self.rotation.history)


@dataclass(frozen=True, slots=True)
class Delta(TensorCodec):
    """Changes of rows, in steps along their principal directions, entropy coded.

    The error of a coordinate is at most 0.6 steps, and does not add up over tensors: what is coded
    is the difference from what the other end has. Elements are then rounded to 1/16 of a step or
    finer. For tensors outside of 2**-100 to 2**90 every element is exact.

    It has a state, of which both ends keep a copy; a frame that is decoded with another one than
    it was encoded with is refused. The state takes two bytes for each element of all rows of the
    session, which may be in a file, and needs the numbers of a tensor's rows, each at most once.

    Attributes:
        step: step in units of the root mean square of the tensor (not of its change), 0.05 to 16.
        refresh: a new basis is tried after this many tensors with one, at the latest; 1 to 65536.
    """

    id: ClassVar[str] = "delta"

    step: float = 1.0
    refresh: int = 32

    def __post_init__(self) -> None:
        """Refuse parameters out of range."""
        require_number(self, "step", 0.05, 16.0)
        require_integer(self, "refresh", 1, 65536)

    def new_state(self, spec: StateSpec) -> DeltaState:
        """See the contract."""
        return DeltaState(spec)

    def encode(self, tensor: FloatArray, context: CodecContext) -> bytes:
        """See the class; refuses NaN and Inf, and a context without the state or the rows."""
        array = check_tensor(tensor, self.id)
        state, rows = self._state(context, array.shape, EncodeError)
        rms, largest = magnitudes(array, self.id)
        check = state.check(rows)
        if can_be_coded(array, rms, largest):
            step = Step.nearest(self.step * rms)
            predicted = state.remembered.predict(rows, step.exponent)
            fine, key = _differences(array.reshape(len(array), -1), largest, predicted, step)
            writer = BodyWriter(
                rotation=state.rotation, refresh=self.refresh, most=array.nbytes, context=None
            )
            written = writer.write(fine, step, check)
            if written is not None:
                body, replaced = written
                form = _CODED + (_REPLACED if replaced else 0) + (_KEY if key else 0)
                return bytes([form]) + body
        return encode_raw(array, check)

    def decode(self, data: Buffer, spec: TensorSpec, context: CodecContext) -> FloatArray:
        """See the class."""
        state, rows = self._state(context, spec.shape, DecodeError)
        check = state.check(rows)
        form = form_of(data, self.id)
        if form == RAW:
            out = decode_raw(data, spec, check, self.id)
            state.remembered.forget(rows)
        elif form & _CODED and form <= _CODED + _REPLACED + _KEY:
            with_basis = bool(form & _REPLACED)
            coordinates = read_body(
                data, spec, state.rotation, check, self.id, with_basis=with_basis
            )
            step = coordinates.step
            values = coordinates.integers(state.rotation.width)
            if not form & _KEY:
                state.remembered.add(rows, step.exponent, values)
            coordinates.update(state.rotation)
            state.remembered.remember(rows, values, step.exponent)
            out = _to_floats(values, step.exponent).reshape(spec.shape)
        else:
            raise DecodeError(f"codec {self.id!r}: expected form 0, 1, 3, 5 or 7, got {form}")
        state.rotation.remember(data, check.to_bytes(4, "little"))
        return out

    def _state(
        self, context: CodecContext, shape: tuple[int, ...], error: type[CodecError]
    ) -> tuple[DeltaState, RowArray]:
        """The state and the row numbers.

        Raises:
            CodecError: of the given class; the context does not have them for such a tensor.
        """
        state = context.state
        if not isinstance(state, DeltaState):
            raise missing_state(state, self.id, error)
        check_width(state.rotation.width, shape, self.id, error)
        return state, state.remembered.checked(context, shape[0], self.id, error)


def _differences(
    array: FloatArray, largest: float, predicted: CodeArray, step: Step
) -> tuple[FineRows, bool]:
    """The rows less their predictions, or whole if those are smaller: then also ``True``."""
    unit = 2.0**step.exponent
    bound = max(largest, unit * max(int(predicted.max()), -int(predicted.min())))
    whole = FineRows.of(array, bound)
    change = np.rint(predicted * (unit * 2.0**-whole.exponent))
    np.subtract(whole.values, change, out=change)
    if _energy(change) <= _energy(whole.values):
        return FineRows(change, whole.exponent), False
    return FineRows.of(array, largest), True


def _energy(values: npt.NDArray[np.float64]) -> float:
    """Sum of squares, in an order that is the same on every machine."""
    return float(quantiser.sum_of_squares(values.astype(np.float32).reshape(-1)))


def _to_floats(values: CodeArray, exponent: int) -> FloatArray:
    """The values times ``2**exponent``, in their own memory."""
    out = values.view(np.float32)
    np.multiply(values, 2.0**exponent, out=out, casting="same_kind", dtype=np.float64)
    return out
