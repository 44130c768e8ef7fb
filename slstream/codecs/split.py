"""``split``: a cut of several named tensors, each by codecs of its own.

A base model may give more than one tensor: embeddings beside wide columns, say, which want other
codecs. They cross as one, joined along dimension 1, and this codec takes them apart again:

    offset  size  field
    0       1     1 (SPLIT)
    1       4     for each tensor but the last: bytes of its part, u32 little-endian
    ...     ...   the parts, in order, each as its own chain encodes it

or form 0, raw (:mod:`slstream.codecs.payload`), where that takes no more bytes, and for tensors
whose dimension 1 is not the sum of the sizes.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from slstream.codecs import payload
from slstream.codecs.chain import CodecChain
from slstream.codecs.contract import (
    Buffer,
    CodecContext,
    CodecState,
    FloatArray,
    StateSpec,
    TensorCodec,
    TensorSpec,
)
from slstream.codecs.stateful_payload import missing_state
from slstream.errors import CodecConfigError, CodecError, DecodeError, EncodeError

MOST_TENSORS = 16

_SPLIT = 1
_LENGTH = struct.Struct("<I")
_NAME = re.compile(r"[a-z0-9]+([_-][a-z0-9]+)*")
_MAX_NAME = 40
_KEYS = ("name", "size", "codec")
_NEXT_SEED = 0x9E3779B97F4A7C15
"""Between the noise keys of two tensors: the golden ratio of 2**64, as in Weyl sequences."""


@dataclass(frozen=True, slots=True)
class SplitTensor:
    """One of the tensors."""

    name: str
    size: int
    """Of dimension 1."""
    chain: CodecChain

    def config(self) -> dict[str, object]:
        """As in the config of the codec."""
        return {"name": self.name, "size": self.size, "codec": self.chain.config()}


class SplitState(CodecState):
    """The state of the one tensor that has one."""

    __slots__ = ("name", "state")

    def __init__(self, name: str, state: CodecState) -> None:
        """Of a tensor's codec."""
        self.name = name
        self.state = state

    def arrays(self) -> Mapping[str, npt.NDArray[Any]]:
        """See the contract."""
        return {f"{self.name}.{key}": array for key, array in self.state.arrays().items()}


@dataclass(frozen=True, slots=True)
class Split(TensorCodec):
    """Several tensors side by side along dimension 1, each by a chain of its own.

    Error and bits of an element are those of its tensor's chain. One of the tensors at most may
    have a codec with a state. Tensors of another size go raw.

    Attributes:
        tensors: in order, 1 to 16 of {name: TEXT, size: INTEGER, codec: CHAIN}. Sizes are those
            of dimension 1.
    """

    id: ClassVar[str] = "split"

    tensors: tuple[SplitTensor, ...]

    def __post_init__(self) -> None:
        """Build the chains, from configs or as they are.

        Raises:
            CodecConfigError: no such list of tensors; a tensor's chain that cannot work, is split
                itself, or is the second with a state.
            UnknownCodec: of a tensor's chain.
        """
        given: object = self.tensors
        if isinstance(given, str) or not isinstance(given, Sequence):
            raise CodecConfigError(
                "tensors of codec 'split' must be a list such as [{name: wide, size: 32, codec: "
                f"[{{id: q8row}}]}}]; got {given!r}"
            )
        if not 1 <= len(given) <= MOST_TENSORS:
            raise CodecConfigError(
                f"codec 'split' takes 1 to {MOST_TENSORS} tensors; got {len(given)}"
            )
        tensors = tuple(_tensor(each, index) for index, each in enumerate(given))
        names = [each.name for each in tensors]
        if len(set(names)) < len(names):
            raise CodecConfigError(f"tensors of codec 'split' must differ in name; got {names}")
        remembering = [each.name for each in tensors if each.chain.tensor.may_have_state()]
        if len(remembering) > 1:
            raise CodecConfigError(
                "one tensor at most of codec 'split' may have a codec that remembers earlier "
                f"tensors; got {', '.join(remembering)}"
            )
        object.__setattr__(self, "tensors", tensors)

    @property
    def exact(self) -> bool:  # type: ignore[override]  # here it depends on the parameters
        """Whether decoding gives back the same bits."""
        return all(each.chain.exact for each in self.tensors)

    @property
    def needs_forward(self) -> bool:  # type: ignore[override]  # as above
        """Whether one of the tensors needs the activation."""
        return any(each.chain.needs_forward for each in self.tensors)

    @property
    def size(self) -> int:
        """Of dimension 1 of all tensors together."""
        return sum(each.size for each in self.tensors)

    def config(self) -> dict[str, object]:
        """See the contract."""
        return {"id": self.id, "tensors": [each.config() for each in self.tensors]}

    def new_state(self, spec: StateSpec) -> SplitState | None:
        """See the contract."""
        if not self._fits((spec.rows, *spec.row_shape)):
            return None
        for each in self.tensors:
            state = each.chain.new_state(replace(spec, row_shape=(each.size, *spec.row_shape[1:])))
            if state is not None:
                return SplitState(each.name, state)
        return None

    def encode(self, tensor: FloatArray, context: CodecContext) -> bytes:
        """See the class; refuses what the tensors' codecs refuse."""
        array = payload.check_tensor(tensor, self.id)
        if not self._fits(array.shape):
            return payload.encode_raw(array)
        parts = []
        for part, columns, own in self._parts(array.shape, context, EncodeError):
            try:
                parts.append(part.chain.encode(array[:, columns], own))
            except EncodeError as error:
                raise EncodeError(f"tensor {part.name!r}: {error}") from error
        lengths = b"".join(_LENGTH.pack(len(each)) for each in parts[:-1])
        data = b"".join((bytes([_SPLIT]), lengths, *parts))
        return data if len(data) <= array.nbytes else payload.encode_raw(array)

    def decode(self, data: Buffer, spec: TensorSpec, context: CodecContext) -> FloatArray:
        """See the class."""
        form = payload.form_of(data, self.id)
        if form == payload.RAW:
            return payload.decode_raw(data, spec, self.id)
        if form != _SPLIT or not self._fits(spec.shape):
            raise DecodeError(
                f"codec 'split': expected form 0, or form 1 for {self.size} columns; got form "
                f"{form} for shape {spec.shape}"
            )
        pieces = self._pieces(memoryview(data))
        jobs = list(zip(self._parts(spec.shape, context, DecodeError), pieces, strict=True))
        # The one that changes a state comes last: when another cannot be decoded, nothing changed.
        jobs.sort(key=lambda job: job[0][0].chain.tensor.may_have_state())
        out = np.empty(spec.shape, np.float32)
        for (part, columns, own), piece in jobs:
            shape = (spec.shape[0], part.size, *spec.shape[2:])
            try:
                out[:, columns] = part.chain.decode(piece, TensorSpec(shape=shape), own)
            except DecodeError as error:
                raise DecodeError(f"tensor {part.name!r}: {error}") from error
        return out

    def _fits(self, shape: tuple[int, ...]) -> bool:
        return len(shape) > 1 and shape[1] == self.size

    def _pieces(self, data: memoryview) -> list[memoryview]:
        """The bytes of each tensor, as foreign lengths say.

        Raises:
            DecodeError: they do not fit.
        """
        start = 1 + _LENGTH.size * (len(self.tensors) - 1)
        if len(data) < start:
            raise DecodeError(
                f"codec 'split': expected the lengths of {len(self.tensors)} parts in the first "
                f"{start} bytes; got {len(data)} bytes"
            )
        pieces = []
        for index in range(len(self.tensors) - 1):
            (length,) = _LENGTH.unpack_from(data, 1 + _LENGTH.size * index)
            if length > len(data) - start:
                raise DecodeError(
                    f"codec 'split': expected {length} bytes of tensor "
                    f"{self.tensors[index].name!r}; got {len(data) - start}"
                )
            pieces.append(data[start : start + length])
            start += length
        return [*pieces, data[start:]]

    def _parts(
        self, shape: tuple[int, ...], context: CodecContext, error: type[CodecError]
    ) -> Iterator[tuple[SplitTensor, slice, CodecContext]]:
        """Each tensor with its columns and context.

        Raises:
            CodecError: of the given class; the context's state is not this codec's.
        """
        first = 0
        for index, each in enumerate(self.tensors):
            columns = slice(first, first + each.size)
            first += each.size
            state = None
            if each.chain.tensor.may_have_state():
                if not isinstance(context.state, SplitState) or context.state.name != each.name:
                    raise missing_state(context.state, self.id, error)
                state = context.state.state
            forward = context.forward
            # Another activation goes on as it is: the tensor's codec says what is wrong with it.
            if isinstance(forward, np.ndarray) and forward.shape == shape:
                forward = np.ascontiguousarray(forward[:, columns])
            seed = (context.seed + index * _NEXT_SEED) % 2**64
            yield each, columns, replace(context, seed=seed, forward=forward, state=state)

    def __str__(self) -> str:
        """Short text for tables: ``split(wide=q8row,embedding=ecsq(step=0.5))``."""
        return f"split({','.join(f'{each.name}={each.chain}' for each in self.tensors)})"


def _tensor(given: object, index: int) -> SplitTensor:
    """Read one tensor's config, or check one that is built already."""
    where = f"tensors[{index}] of codec 'split'"
    config = given.config() if isinstance(given, SplitTensor) else given
    if not isinstance(config, Mapping) or set(config) != set(_KEYS):
        found = sorted(map(str, config)) if isinstance(config, Mapping) else config
        raise CodecConfigError(f"{where} must have the keys {', '.join(_KEYS)}; got {found!r}")
    name, size, chain = (config[key] for key in _KEYS)
    if not isinstance(name, str) or len(name) > _MAX_NAME or not _NAME.fullmatch(name):
        raise CodecConfigError(
            f"{where}: name must be words of lower-case letters and digits, joined by '-' or '_', "
            f"of at most {_MAX_NAME} characters; got {str(name)[:80]!r}"
        )
    if not isinstance(size, int) or isinstance(size, bool) or not 1 <= size < 2**30:
        raise CodecConfigError(f"{where}: size must be an integer of 1 or more; got {size!r}")
    # Looked at before anything is built: a foreign document may nest as deep as it likes.
    if isinstance(chain, Sequence) and any(
        isinstance(each, Mapping) and each.get("id") == Split.id for each in chain
    ):
        raise CodecConfigError(f"{where}: a tensor cannot be split again")
    try:
        return SplitTensor(name, size, CodecChain.from_config(chain))
    except CodecError as error:
        raise type(error)(f"{where}: {error}") from error
