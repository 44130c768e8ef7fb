"""A tensor codec followed by any number of lossless bytes codecs.

Each bytes stage puts one byte before its output:

    offset  size  field
    0       1     0 = stored (the stage did not pay), 1 = compressed
    1       ...   what the stage got, or its compressed form

so a chain never makes a tensor larger than its tensor codec does, plus one byte per stage.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from slstream.codecs.contract import (
    HEADER_BYTES,
    Buffer,
    BytesCodec,
    Codec,
    CodecContext,
    CodecState,
    FloatArray,
    StateSpec,
    TensorCodec,
    TensorSpec,
)
from slstream.codecs.registry import codec_from_config
from slstream.errors import CodecConfigError, DecodeError

MAX_STAGES = 8
"""Most bytes codecs in a chain: their leading bytes are part of ``HEADER_BYTES``."""

_STORED = 0
_COMPRESSED = 1


@dataclass(frozen=True, slots=True)
class CodecChain:
    """How one kind of tensor crosses a link. Immutable; equal when the configs are equal.

    Attributes:
        tensor: the codec that turns the tensor into bytes.
        stages: lossless codecs applied to these bytes, in order.
    """

    tensor: TensorCodec
    stages: tuple[BytesCodec, ...] = ()

    @classmethod
    def from_config(cls, config: Sequence[Mapping[str, object]]) -> Self:
        """Build from a list of codec configs: a tensor codec first, bytes codecs after it.

        Raises:
            UnknownCodec: an id that is not registered.
            CodecConfigError: parameters that a codec refuses, or an order that cannot work.
        """
        if isinstance(config, Mapping | str) or not isinstance(config, Sequence) or not config:
            raise CodecConfigError(
                f"a codec chain must be a list with at least one codec config; got {config!r}"
            )
        codecs = [codec_from_config(each) for each in config]
        first, rest = codecs[0], codecs[1:]
        if not isinstance(first, TensorCodec):
            raise CodecConfigError(
                f"a codec chain must start with a codec of tensors; {first.id!r} is a codec of "
                "bytes: put a tensor codec such as 'raw32' before it"
            )
        stages: list[BytesCodec] = []
        before: Codec = first
        for codec in rest:
            if not isinstance(codec, BytesCodec):
                raise CodecConfigError(
                    f"{before.id!r} followed by {codec.id!r} cannot work: {before.id!r} gives "
                    f"bytes and {codec.id!r} takes a tensor; keep one of them"
                )
            stages.append(codec)
            before = codec
        if len(stages) > MAX_STAGES:
            raise CodecConfigError(
                f"a codec chain has at most {MAX_STAGES} bytes codecs; got {len(stages)}"
            )
        return cls(first, tuple(stages))

    def config(self) -> list[dict[str, object]]:
        """The JSON list from which :meth:`from_config` builds an equal chain."""
        return [self.tensor.config(), *(stage.config() for stage in self.stages)]

    @property
    def exact(self) -> bool:
        """Whether decoding gives back the same bits."""
        return self.tensor.exact

    @property
    def finite(self) -> bool:
        """Whether NaN and Inf are refused at both ends."""
        return self.tensor.finite

    @property
    def needs_forward(self) -> bool:
        """Whether it encodes gradients only, and needs the activation in ``context.forward``."""
        return self.tensor.needs_forward

    def new_state(self, spec: StateSpec) -> CodecState | None:
        """The state of one end of a link, for ``context.state``; ``None``: the chain needs none."""
        return self.tensor.new_state(spec)

    def encode(self, tensor: FloatArray, context: CodecContext) -> bytes:
        """Encode a tensor.

        Args:
            tensor: float32, 1 to 4 dimensions, any strides; not modified.
            context: key of the noise.

        Returns:
            At most ``tensor.nbytes + HEADER_BYTES`` bytes.

        Raises:
            EncodeError: a tensor that the tensor codec refuses.
        """
        return self.compress(self.tensor.encode(tensor, context))

    def compress(self, data: bytes) -> bytes:
        """What the stages make of the bytes of the tensor codec."""
        for stage in self.stages:
            packed = stage.compress(data)
            if len(packed) < len(data):
                data = bytes([_COMPRESSED]) + packed
            else:
                data = bytes([_STORED]) + data
        return data

    def decode(self, data: Buffer, spec: TensorSpec, context: CodecContext) -> FloatArray:
        """Decode foreign bytes.

        Returns:
            A new float32 C-contiguous array of exactly ``spec.shape``, writable.

        Raises:
            DecodeError: the bytes are not an encoding of a tensor of this shape.
        """
        return self.tensor.decode(self.decompress(data, spec), spec, context)

    def decompress(self, data: Buffer, spec: TensorSpec) -> Buffer:
        """Undo :meth:`compress` with foreign bytes.

        Raises:
            DecodeError: they are not what :meth:`compress` makes for a tensor of this shape.
        """
        limit = spec.raw_bytes + HEADER_BYTES
        for stage in reversed(self.stages):
            if len(data) == 0:
                raise DecodeError(f"stage {stage.id!r}: expected a leading byte, got 0 bytes")
            view = memoryview(data)
            if view[0] == _COMPRESSED:
                data = stage.decompress(view[1:], limit)
            elif view[0] == _STORED:
                data = view[1:]
            else:
                raise DecodeError(
                    f"stage {stage.id!r}: expected leading byte {_STORED} (stored) or "
                    f"{_COMPRESSED} (compressed), got {view[0]}"
                )
        return data

    def __str__(self) -> str:
        """Short text for tables, with the parameters that are not defaults: ``q8row+zstd``."""
        return "+".join(str(codec) for codec in (self.tensor, *self.stages))
