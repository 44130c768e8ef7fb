"""What every codec promises.

A codec turns a tensor into bytes and back. It is a pure function of (config, tensor, context): no
I/O, no clock, no global randomness, no hidden state: what a codec remembers of a link's tensors is
a :class:`CodecState` that the context holds. Two kinds are told apart by their signature,
so that a chain that cannot work is refused when it is built:

- :class:`TensorCodec`: float32 array -> bytes. Starts every chain.
- :class:`BytesCodec`: bytes -> bytes, lossless. May follow.

Promises, checked by :mod:`slstream.testing.codecs` for every registered codec:

- **Config.** A codec is its JSON config, which carries its id: ``from_config(codec.config()) ==
  codec``. Equal configs mean mutually decodable bytes, for ever: an id is never reused for another
  format (golden files hold this).
- **Determinism.** Equal (config, tensor, context) give equal bytes on every machine.
- **Size.** Encoded bytes never exceed ``raw size + HEADER_BYTES``: a codec that does not pay falls
  back to raw by itself, and says so in its first byte.
- **Edge tensors.** Empty, one row, all zero, constant, negative only, huge range, non-contiguous,
  1-D to 4-D all work. NaN and Inf either round-trip or are refused with :class:`EncodeError` that
  names the first bad index.
- **Hostile bytes.** ``decode`` of any bytes returns an array of exactly the expected shape or
  raises :class:`DecodeError`; it allocates at most twice the expected tensor and never trusts a
  length that the bytes claim.
- **Threads.** Codecs are immutable, usable from several threads at once, and hold the GIL only
  briefly.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from slstream.codecs.parameters import read_config, short_text, write_config

HEADER_BYTES = 16
"""Most bytes by which an encoded tensor may exceed its raw float32 size."""

FloatArray = npt.NDArray[np.float32]
RowArray = npt.NDArray[np.int64]
Buffer = bytes | bytearray | memoryview


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorSpec:
    """Shape of the tensor that a decoder must produce: negotiated, never taken from the bytes."""

    shape: tuple[int, ...]
    """Sizes of 1 to 4 dimensions; 0 is allowed. The first is the batch (row) dimension."""

    @property
    def elements(self) -> int:
        """Number of elements, computed in Python integers (numpy's product overflows)."""
        return math.prod(self.shape)

    @property
    def raw_bytes(self) -> int:
        """Size of the tensor as float32."""
        return 4 * self.elements


@dataclass(frozen=True, slots=True, kw_only=True)
class CodecContext:
    """What a codec may depend on beside the tensor; the same on both ends of a link.

    Stochastic rounding draws its noise from a counter-based generator keyed by these two numbers,
    so that a recomputed frame has the same bits and no generator state can be forgotten.
    """

    seed: int = 0
    """64-bit key: derived from (session seed, link, tensor name)."""

    counter: int = 0
    """64-bit number that differs for every tensor encoded under one seed."""

    forward: FloatArray | None = field(default=None, compare=False, repr=False)
    """For a gradient: the activation of the same party and step as its receiver decoded it, float32
    of the gradient's shape; not modified. Both ends have it. ``None`` for all other tensors."""

    rows: RowArray | None = field(default=None, compare=False, repr=False)
    """int64 [rows of the tensor]: which of the session's rows each row of the tensor is. Both ends
    have it; ``None`` where rows have no identity, as outside of a session."""

    state: CodecState | None = field(default=None, compare=False, repr=False)
    """Of this end of the link, for a codec that has one; see :meth:`TensorCodec.new_state`."""


class CodecState(ABC):
    """What a codec remembers of the tensors that crossed one link, at one of its ends.

    It changes by decoding, and by nothing else: both ends decode every tensor of the link, the
    sender too, in the order of the log. So the two are equal at every tensor, and a party that
    catches up from the log comes to the same. Used by one thread.
    """

    @abstractmethod
    def arrays(self) -> Mapping[str, npt.NDArray[Any]]:
        """All of it by name, for checkpoints; not copied. The shapes never change.

        Element types are those of numpy's integers and floats of 1 to 8 bytes.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class StateSpec:
    """What a state may be sized by: known to both ends before the first tensor."""

    rows: int
    """Rows of the session; :attr:`CodecContext.rows` are below it."""
    row_shape: tuple[int, ...]
    """Sizes of the dimensions behind the first."""
    allocate: Callable[[tuple[int, ...], npt.DTypeLike], npt.NDArray[Any]] = np.zeros
    """Makes an array of zeros; may put large ones into a file."""


class Codec(ABC):
    """Common to both kinds. Subclasses are frozen dataclasses whose fields are their parameters."""

    id: ClassVar[str]
    """Name in configs and schemas; ``[a-z][a-z0-9_]{0,31}``."""

    def config(self) -> dict[str, object]:
        """JSON object with ``"id"`` and every parameter, defaults included."""
        return write_config(self)

    @classmethod
    def from_config(cls, config: Mapping[str, object]) -> Self:
        """Build from a config.

        Raises:
            CodecConfigError: an unknown key or a value out of range; the message names it and
                what is allowed.
        """
        return read_config(cls, config)

    def __str__(self) -> str:
        """Short text for tables: the id and the parameters that are not defaults."""
        return short_text(self)


class TensorCodec(Codec):
    """float32 array -> bytes -> float32 array."""

    exact: ClassVar[bool] = False
    """Whether decoding gives back the same bits."""

    finite: ClassVar[bool] = False
    """Whether NaN and Inf never pass: ``encode`` refuses them, and ``decode`` bytes that hold them.
    What such a codec takes or gives need not be looked at again."""

    needs_forward: ClassVar[bool] = False
    """Whether ``context.forward`` must be there: a codec of gradients only."""

    def new_state(self, spec: StateSpec) -> CodecState | None:
        """The state before the first tensor of a link; ``None`` for a codec that has none.

        A codec with a state needs ``context.state``, and ``context.rows`` where it remembers by
        row. ``encode`` leaves the state as it is. ``decode`` of a tensor changes it only when it
        succeeds.
        """
        del spec
        return None

    @classmethod
    def may_have_state(cls) -> bool:
        """Whether :meth:`new_state` may return one: whether the codec has its own."""
        return cls.new_state is not TensorCodec.new_state

    @abstractmethod
    def encode(self, tensor: FloatArray, context: CodecContext) -> bytes:
        """Encode a tensor.

        Args:
            tensor: float32, 1 to 4 dimensions, any strides; not modified.
            context: key of the noise.

        Raises:
            EncodeError: not float32, more than 4 dimensions, or values that this codec refuses.
        """

    @abstractmethod
    def decode(self, data: Buffer, spec: TensorSpec, context: CodecContext) -> FloatArray:
        """Decode foreign bytes.

        Returns:
            A new float32 C-contiguous array of exactly ``spec.shape``, writable.

        Raises:
            DecodeError: the bytes are not an encoding of a tensor of this shape.
        """


class BytesCodec(Codec):
    """bytes -> bytes, lossless."""

    @abstractmethod
    def compress(self, data: Buffer) -> bytes:
        """Compress. May return more bytes than it got; the chain then falls back."""

    @abstractmethod
    def decompress(self, data: Buffer, max_bytes: int) -> bytes:
        """Decompress foreign bytes into at most ``max_bytes``.

        Raises:
            DecodeError: corrupt, or the content is longer than ``max_bytes``; no more than that is
                allocated.
        """
