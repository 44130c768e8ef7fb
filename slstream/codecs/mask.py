"""``mask``: gradients without the entries that a ReLU throws away.

Where the decoded activation of the same step is 0, an entry of the gradient is not sent and decodes
as 0. Both ends have that activation (:attr:`CodecContext.forward`), so where costs nothing. The
bytes are those of the codec inside; what it is given depends on what it is:

- ``ecsq`` codes the entries that are left with the classes of their rows and columns, taken over
  what is left of each (:class:`slstream.codecs.scale_context.Layout`).
- Any other codec gets them in row-major order as a tensor of one dimension.
- A mask that leaves nothing out passes the tensor on as it is.

Measured on the gradients of trainings of two parties behind ReLU cuts, their activations decoded
from ``ecsq(step=0.75)``: bytes as a fraction of those of ``ecsq(step=1.5)`` without a mask. The
last column is this codec; the others are ways that know nothing of classes:

    data, batch x cut        entries left   0 sent   one row   rows of equal width   classes kept
    credit, 512 x 64         0.41           0.59     0.58      0.53                  0.45
    credit, 128 x 64         0.40           0.61     0.56      0.55                  0.48
    credit, 512 x 256        0.38           0.55     0.56      0.49                  0.41
    digits, 128 x 64         0.59           0.72     0.66      0.65                  0.60
    digits, 512 x 64         0.52           0.65     0.53      0.56                  0.52
    digits, 128 x 256        0.64           0.74     0.80      0.66                  0.63
    breast cancer, 128 x 64  0.45           0.65     0.60      0.59                  0.51

The last takes the fewest bytes throughout, as the gradients of a batch differ by orders of
magnitude between rows.

**Bias.** A coarse codec also decodes small activations above 0 as 0: with a step of 0.75, those
below 0.375 rms, which were a sixth of all entries above. Their gradients are lost although the ReLU
lets them pass, so a unit learns less from samples that hardly excite it. Points that the mask cost
over paired seeds (standard error):

    credit, AUC after 8 epochs         -0.15 (0.04); -0.02 (0.03) with ecsq(step=0.5) forward
    digits, accuracy after 15 epochs   -0.36 (0.11); -0.28 (0.13) with ecsq(step=0.5) forward
    digits, accuracy after 40 epochs   -0.07 (0.11)
    breast cancer, AUC                 -0.02 (0.02)

On digits, where the longer training also had twice the learning rate, what it cost went away. A cut
that does not end in a ReLU has no other zeros than these.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from slstream.codecs.contract import Buffer, CodecContext, FloatArray, TensorCodec, TensorSpec
from slstream.codecs.ecsq import Ecsq
from slstream.codecs.kept_elements import gather, scatter
from slstream.codecs.parameters import require_codec
from slstream.codecs.payload import check_tensor, not_finite
from slstream.errors import CodecError, DecodeError, EncodeError

_PART = 1 << 16
"""Elements of which a mask is held beside values and output; of all, it would be too much."""


def _default_values() -> TensorCodec:
    return Ecsq(step=1.5, rounding="stochastic")


@dataclass(frozen=True, slots=True)
class Mask(TensorCodec):
    """The entries of a gradient whose decoded activation is not 0, by another codec.

    Bits per element are about those of the codec inside times the fraction that is left. The error
    of an entry that is left is that of the codec inside, whose scales follow from what is left;
    the others decode to exactly 0.

    Attributes:
        values: codec of the entries that are left. One with a scale per row sees a single row: give
            it a ``block``.
    """

    id: ClassVar[str] = "mask"
    needs_forward: ClassVar[bool] = True

    values: TensorCodec = field(default_factory=_default_values)

    def __post_init__(self) -> None:
        """Refuse parameters out of range."""
        require_codec(self, "values")

    def encode(self, tensor: FloatArray, context: CodecContext) -> bytes:
        """See the class; refuses NaN and Inf anywhere, and a context without the activation."""
        array = check_tensor(tensor, self.id)
        forward = _forward(context, array.shape, EncodeError)
        if not np.isfinite(array).all():
            raise not_finite(array, self.id)
        mask = forward != 0
        left = int(np.count_nonzero(mask))
        if left == array.size:
            return self.values.encode(array, context)
        if isinstance(self.values, Ecsq):
            return self.values.encode_masked(array * mask, mask, context)
        values = np.empty(left + 1, np.float32)
        gather(array.reshape(-1), mask.reshape(-1).view(np.uint8), values)
        return self.values.encode(values[:-1], context)

    def decode(self, data: Buffer, spec: TensorSpec, context: CodecContext) -> FloatArray:
        """See the class."""
        forward = _forward(context, spec.shape, DecodeError)
        left = int(np.count_nonzero(forward != 0))
        if left == forward.size:
            return self.values.decode(data, spec, context)
        if isinstance(self.values, Ecsq):
            return self.values.decode_masked(data, spec, forward != 0)
        values = self.values.decode(data, TensorSpec(shape=(left,)), context)
        return _spread(values, forward.reshape(-1)).reshape(spec.shape)


def _spread(values: FloatArray, forward: FloatArray) -> FloatArray:
    """Put the values, in order, where the activation is not 0, and 0 elsewhere: float32 [n]."""
    out = np.zeros(forward.size, np.float32)
    first = 0
    for start in range(0, forward.size, _PART):
        part = slice(start, start + _PART)
        mask = forward[part] != 0
        if mask.any():
            scatter(values[first:], np.packbits(mask), 1.0, out[part])
        first += int(np.count_nonzero(mask))
    return out


def _forward(context: CodecContext, shape: tuple[int, ...], error: type[CodecError]) -> FloatArray:
    """The activation.

    Raises:
        CodecError: of the given class; there is none, or it is not float32 of the shape.
    """
    forward = context.forward
    if forward is None:
        raise error(
            "codec 'mask' expected the decoded activation of the same step, found none: it is for "
            "gradients only; use the codec inside it for other tensors"
        )
    found: str = type(forward).__name__
    if isinstance(forward, np.ndarray):
        if forward.dtype == np.float32 and forward.shape == shape:
            return forward
        found = f"{forward.dtype} of shape {forward.shape}"
    raise error(
        f"codec 'mask' expected an activation of the gradient's shape, float32 of {shape}; "
        f"found {found}"
    )
