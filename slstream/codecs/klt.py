"""``klt``: rows rotated to their principal directions, then one step and an entropy coder.

The columns of a cut are correlated: most of what 64 units say is in ten directions (K. Karhunen
1947, M. Loève 1948; the transform is optimal for Gaussian sources). The basis is found in the
original tensor, sent along, kept, and replaced when that pays: :mod:`slstream.codecs.rotated_codes`
has the rules and the layout of a body.

    offset  size  field
    0       1     1 (KEPT): the basis of the state counts; 3 (REPLACED): the body brings one
    1       ...   the body

The raw form is that of :mod:`slstream.codecs.stateful_payload`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy.typing as npt

from slstream.codecs.contract import (
    Buffer,
    CodecContext,
    CodecState,
    FloatArray,
    StateSpec,
    TensorCodec,
    TensorSpec,
)
from slstream.codecs.parameters import require_choice, require_integer, require_number
from slstream.codecs.payload import RAW, check_tensor, form_of
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

_KEPT = 1
_REPLACED = 3


class KltState(CodecState):
    """The basis and what the entropy coder has learnt."""

    __slots__ = ("rotation",)

    def __init__(self, width: int) -> None:
        """Before the first tensor of rows of ``width`` elements."""
        self.rotation = Rotation(width)

    def arrays(self) -> Mapping[str, npt.NDArray[Any]]:
        """See the contract."""
        return self.rotation.arrays()


@dataclass(frozen=True, slots=True)
class Klt(TensorCodec):
    """Coordinates of rows in their principal directions, in steps, entropy coded.

    The error of a coordinate is at most 0.6 steps with ``nearest``, which prefers 0, and below one
    step with ``stochastic``, which is unbiased: the mean over many contexts is the element, to
    2**-16 steps. The basis is orthonormal: a row's squared error is the sum over its coordinates.
    All-zero tensors, and tensors outside of 2**-100 to 2**90, are exact. Rows above 512 elements
    are not rotated.

    It has a state, of which both ends keep a copy; a frame that is decoded with another one than
    it was encoded with is refused.

    Attributes:
        step: step in units of the tensor's root mean square, 0.05 to 16.
        rounding: ``nearest`` for activations, ``stochastic`` for gradients.
        refresh: a new basis is tried after this many tensors with one, at the latest; 1 to 65536.
    """

    id: ClassVar[str] = "klt"

    step: float = 1.0
    rounding: str = "nearest"
    refresh: int = 32

    def __post_init__(self) -> None:
        """Refuse parameters out of range."""
        require_number(self, "step", 0.05, 16.0)
        require_choice(self, "rounding", ("nearest", "stochastic"))
        require_integer(self, "refresh", 1, 65536)

    def new_state(self, spec: StateSpec) -> KltState:
        """See the contract."""
        return KltState(math.prod(spec.row_shape))

    def encode(self, tensor: FloatArray, context: CodecContext) -> bytes:
        """See the class; refuses NaN and Inf, and a context without the state."""
        array = check_tensor(tensor, self.id)
        rotation = _rotation(context, array.shape, EncodeError)
        rms, largest = magnitudes(array, self.id)
        if can_be_coded(array, rms, largest):
            writer = BodyWriter(
                rotation=rotation,
                refresh=self.refresh,
                most=array.nbytes,
                context=context if self.rounding == "stochastic" else None,
            )
            rows = FineRows.of(array.reshape(len(array), -1), largest)
            written = writer.write(rows, Step.nearest(self.step * rms), rotation.history)
            if written is not None:
                body, replaced = written
                return bytes([_REPLACED if replaced else _KEPT]) + body
        return encode_raw(array, rotation.history)

    def decode(self, data: Buffer, spec: TensorSpec, context: CodecContext) -> FloatArray:
        """See the class."""
        rotation = _rotation(context, spec.shape, DecodeError)
        form = form_of(data, self.id)
        if form == RAW:
            out = decode_raw(data, spec, rotation.history, self.id)
            rotation.remember(data)
            return out
        if form not in (_KEPT, _REPLACED):
            raise DecodeError(f"codec {self.id!r}: expected form 0, 1 or 3, got {form}")
        coordinates = read_body(
            data, spec, rotation, rotation.history, self.id, with_basis=form == _REPLACED
        )
        out = coordinates.floats(rotation.width).reshape(spec.shape)
        coordinates.update(rotation)
        rotation.remember(data)
        return out


def _rotation(context: CodecContext, shape: tuple[int, ...], error: type[CodecError]) -> Rotation:
    """The state's rotation.

    Raises:
        CodecError: of the given class; the context has no state of this codec for such rows.
    """
    state = context.state
    if not isinstance(state, KltState):
        raise missing_state(state, "klt", error)
    check_width(state.rotation.width, shape, "klt", error)
    return state.rotation
