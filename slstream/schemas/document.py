"""The schema document: what the payloads of one sort of frame mean.

A closed JSON object; a key that is not listed is refused. Frames with a tensor::

    {"format": 1, "frame": 1, "kind": "activation", "tensor": "cut", "dtype": "float32",
     "shape": ["batch", 64], "codec": [{"id": "ecsq", "step": 0.5}, {"id": "zstd"}]}

and all others::

    {"format": 1, "frame": 1, "kind": "control", "content": "json"}

``format`` is the version of this document, ``frame`` that of the frame layout. The codec configs
are kept as they are, not interpreted: a registry may hold schemas whose codecs this installation
does not have.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Self

from slstream.errors import InvalidSchema
from slstream.schemas.canonical_json import Json, canonical_json, parse_json

DOCUMENT_FORMAT = 1
FRAME_FORMAT = 1
MAX_DOCUMENT_BYTES = 65_536
MAX_CODECS = 8
MAX_ROW_ELEMENTS = 2**30 - 1
"""A single row must fit the payload of a frame as float32."""

_BATCH = "batch"
_DTYPE = "float32"
_TENSOR_NAME = re.compile(r"[a-z0-9]+([_-][a-z0-9]+)*")
_MAX_TENSOR_NAME = 64
_CODEC_ID = re.compile(r"[a-z][a-z0-9_]{0,31}")


class SchemaKind(StrEnum):
    """Kind of the frames that a schema describes; the labels of the frame kinds."""

    ACTIVATION = "activation"
    GRADIENT = "gradient"
    EVALUATION = "evaluation"
    CONTROL = "control"
    IDS = "ids"
    MATCH = "match"


CONTENTS = {SchemaKind.CONTROL: "json", SchemaKind.IDS: "digests", SchemaKind.MATCH: "bitmap"}
"""What the payloads of the kinds without a tensor hold."""

_TENSOR_KEYS = ("format", "frame", "kind", "tensor", "dtype", "shape", "codec")
_CONTENT_KEYS = ("format", "frame", "kind", "content")


@dataclass(frozen=True, slots=True, kw_only=True)
class Schema(ABC):
    """Either a :class:`TensorSchema` or a :class:`ContentSchema`; always valid, hashable."""

    kind: SchemaKind

    @property
    @abstractmethod
    def subject(self) -> str:
        """Name under which the versions of one schema are collected."""

    @abstractmethod
    def document(self) -> dict[str, Json]:
        """The JSON object, new at each call."""

    def canonical_json(self) -> str:
        """The one text of this document, see :mod:`slstream.schemas.canonical_json`."""
        return canonical_json(self.document())

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the canonical text, 64 hexadecimal digits."""
        return hashlib.sha256(self.canonical_json().encode()).hexdigest()

    @staticmethod
    def from_json(data: bytes) -> TensorSchema | ContentSchema:
        """Read a document from foreign bytes, in any spelling.

        Raises:
            InvalidSchema: not such a document; the message names the field, what was expected, and
                what was found.
        """
        document = parse_json(data, MAX_DOCUMENT_BYTES)
        if not isinstance(document, dict):
            raise InvalidSchema(f"expected a JSON object, found {_text(document)}")
        _check_constant(document, "format", DOCUMENT_FORMAT)
        _check_constant(document, "frame", FRAME_FORMAT)
        kind = _kind(document.get("kind"))
        if kind in CONTENTS:
            _check_keys(document, _CONTENT_KEYS)
            _check_constant(document, "content", CONTENTS[kind])
            return ContentSchema(kind=kind)
        _check_keys(document, _TENSOR_KEYS)
        _check_constant(document, "dtype", _DTYPE)
        tensor, shape, codec = document["tensor"], document["shape"], document["codec"]
        if not isinstance(tensor, str):
            raise InvalidSchema(f"tensor: expected text, found {_text(tensor)}")
        if not isinstance(shape, list) or not shape or shape[0] != _BATCH:
            raise InvalidSchema(f'shape: expected a list that begins with "batch", {_found(shape)}')
        if not isinstance(codec, list):
            raise InvalidSchema(f"codec: expected a list of codec configs, {_found(codec)}")
        sizes = tuple(_size(size, index) for index, size in enumerate(shape) if index > 0)
        return TensorSchema(
            kind=kind,
            tensor=tensor,
            row_shape=sizes,
            codec=tuple(canonical_json(config) for config in codec),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorSchema(Schema):
    """Frames that carry one encoded float32 tensor: [batch, *row_shape]."""

    tensor: str
    """Which of the tensors of this kind; words of lower-case letters and digits, joined by ``-`` or
    ``_``, at most 64 characters."""
    row_shape: tuple[int, ...]
    """Sizes of 0 to 3 dimensions behind the batch dimension; 1 or more each."""
    codec: tuple[str, ...]
    """The codec chain: the canonical JSON text of 1 to 8 configs, see :meth:`build`."""

    def __post_init__(self) -> None:
        if self.kind in CONTENTS:
            kinds = ", ".join(k for k in SchemaKind if k not in CONTENTS)
            raise InvalidSchema(f"kind: expected one with a tensor ({kinds}), found {self.kind}")
        if len(self.tensor) > _MAX_TENSOR_NAME or not _TENSOR_NAME.fullmatch(self.tensor):
            raise InvalidSchema(
                "tensor: expected words of lower-case letters and digits, joined by '-' or '_', at "
                f"most {_MAX_TENSOR_NAME} characters, found {self.tensor[:80]!r}"
            )
        if len(self.row_shape) > 3:
            raise InvalidSchema(
                f"shape: expected 1 to 4 dimensions, found {len(self.row_shape) + 1}"
            )
        for index, size in enumerate(self.row_shape, 1):
            _size(size, index)
        if math.prod(self.row_shape) > MAX_ROW_ELEMENTS:
            raise InvalidSchema(
                f"shape: expected at most {MAX_ROW_ELEMENTS} elements in a row, "
                f"found {math.prod(self.row_shape)}"
            )
        if not 1 <= len(self.codec) <= MAX_CODECS:
            raise InvalidSchema(
                f"codec: expected 1 to {MAX_CODECS} codecs, found {len(self.codec)}"
            )
        for index, text in enumerate(self.codec):
            _check_codec(text, f"codec[{index}]")
        size = len(self.canonical_json())
        if size > MAX_DOCUMENT_BYTES:
            raise InvalidSchema(
                f"document: expected at most {MAX_DOCUMENT_BYTES} bytes in canonical form, "
                f"found {size}"
            )

    @classmethod
    def build(
        cls,
        *,
        kind: SchemaKind,
        tensor: str,
        row_shape: Sequence[int],
        codec: Sequence[Mapping[str, object]],
    ) -> Self:
        """A schema from codec configs as ``Codec.config()`` returns them.

        Raises:
            InvalidSchema: a value is outside its range, or a config is not JSON.
        """
        return cls(
            kind=kind,
            tensor=tensor,
            row_shape=tuple(row_shape),
            codec=tuple(canonical_json(dict(config)) for config in codec),
        )

    @property
    def subject(self) -> str:
        """``<kind>.<tensor>``."""
        return f"{self.kind}.{self.tensor}"

    @property
    def codec_ids(self) -> tuple[str, ...]:
        """Ids of the chain, in encoding order."""
        return tuple(str(config["id"]) for config in self.codec_configs())

    def codec_configs(self) -> list[dict[str, Json]]:
        """The configs of the chain, in encoding order; new objects at each call."""
        return [json.loads(text) for text in self.codec]

    def shape_for(self, rows: int) -> tuple[int, ...]:
        """Shape of a tensor with ``rows`` rows."""
        return (rows, *self.row_shape)

    def document(self) -> dict[str, Json]:
        """The JSON object, new at each call."""
        return {
            "format": DOCUMENT_FORMAT,
            "frame": FRAME_FORMAT,
            "kind": str(self.kind),
            "tensor": self.tensor,
            "dtype": _DTYPE,
            "shape": [_BATCH, *self.row_shape],
            "codec": [*self.codec_configs()],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class ContentSchema(Schema):
    """Frames whose kind alone says what they hold."""

    def __post_init__(self) -> None:
        if self.kind not in CONTENTS:
            raise InvalidSchema(
                f"kind: expected one without a tensor ({', '.join(CONTENTS)}), found {self.kind}"
            )

    @property
    def subject(self) -> str:
        """The kind."""
        return str(self.kind)

    @property
    def content(self) -> str:
        """``json``, ``digests`` or ``bitmap``."""
        return CONTENTS[self.kind]

    def document(self) -> dict[str, Json]:
        """The JSON object, new at each call."""
        return {
            "format": DOCUMENT_FORMAT,
            "frame": FRAME_FORMAT,
            "kind": str(self.kind),
            "content": self.content,
        }


def _kind(value: Json) -> SchemaKind:
    if not isinstance(value, str) or value not in list(SchemaKind):
        raise InvalidSchema(f"kind: expected one of {', '.join(SchemaKind)}, {_found(value)}")
    return SchemaKind(value)


def _check_keys(document: Mapping[str, Json], keys: tuple[str, ...]) -> None:
    allowed = f"a document of kind {document['kind']} has the keys {', '.join(keys)}"
    for key in document:
        if key not in keys:
            raise InvalidSchema(f"{key[:80]}: unknown key; {allowed}")
    for key in keys:
        if key not in document:
            raise InvalidSchema(f"{key}: missing; {allowed}")


def _check_constant(document: Mapping[str, Json], key: str, expected: str | int) -> None:
    found = document.get(key)
    if type(found) is not type(expected) or found != expected:
        raise InvalidSchema(f"{key}: expected {_text(expected)}, {_found(found)}")


def _size(value: object, index: int) -> int:
    if type(value) is not int or value < 1:
        raise InvalidSchema(f"shape[{index}]: expected an integer of 1 or more, {_found(value)}")
    return value


def _check_codec(text: str, path: str) -> None:
    config = parse_json(text.encode(), MAX_DOCUMENT_BYTES)
    if not isinstance(config, dict):
        raise InvalidSchema(f"{path}: expected an object with an id, {_found(config)}")
    codec_id = config.get("id")
    if not isinstance(codec_id, str) or not _CODEC_ID.fullmatch(codec_id):
        raise InvalidSchema(
            f"{path}.id: expected a lower-case word of at most 32 characters, {_found(codec_id)}"
        )
    if canonical_json(config) != text:
        raise InvalidSchema(f"{path}: expected canonical JSON, found {text[:80]}")


def _found(value: object) -> str:
    return "found nothing" if value is None else f"found {_text(value)}"


def _text(value: object) -> str:
    """A short text of any value, for messages."""
    return repr(value)[:80]
