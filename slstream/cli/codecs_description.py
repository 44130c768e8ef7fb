"""What a codec's class says about itself: docstring and parameters, as data.

Of parameters, types and defaults are those of the dataclass. Ranges are told by its docstring, in
``Attributes:``; for built-in codecs tests compare them with what the class accepts.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Literal

from pydantic import JsonValue

from slstream.codecs.contract import Codec, TensorCodec
from slstream.codecs.parameters import default_of

Kind = Literal["tensor", "stateful", "bytes", "gradients"]

_TYPES = {"int": "integer", "float": "number", "str": "string", "bool": "boolean"}
"""Words of JSON for Python's."""

_ATTRIBUTES = re.compile(r"^Attributes:\n((?:[ \t]+.*\n|\n)*)", re.M)
_ATTRIBUTE = re.compile(r"^ {4}(\w+): ((?:.*\n)(?: {5,}.*\n)*)", re.M)


@dataclass(frozen=True, slots=True, kw_only=True)
class ParameterDescription:
    """One parameter of a codec."""

    name: str
    type: str
    required: bool
    """Whether a config must have it: there is no default."""
    default: JsonValue
    text: str
    """One paragraph: meaning and range; empty where the docstring is silent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CodecDescription:
    """All that ``codecs show`` shows."""

    id: str
    kind: Kind
    """Encodes tensors, does so by what crossed the link before, packs the bytes of another codec,
    or encodes gradients only."""
    summary: str
    """First sentence of the docstring."""
    text: str
    """The docstring without its parameters; its layout kept."""
    parameters: tuple[ParameterDescription, ...]
    source: str
    """``module:Class``."""

    @property
    def direction(self) -> str:
        """Key of a topology's ``codec`` section under which the example stands."""
        # Gradients are what stochastic rounding is for.
        unbiased = any((p.name, p.default) == ("rounding", "stochastic") for p in self.parameters)
        return "backward" if self.kind == "gradients" or unbiased else "forward"

    @property
    def example(self) -> list[JsonValue]:
        """A chain for a topology, every parameter at its default."""
        config: dict[str, JsonValue] = {"id": self.id}
        for each in self.parameters:
            config[each.name] = f"<{each.type}>" if each.required else each.default
        own: JsonValue = config if self.parameters else self.id
        return ["fp16", own] if self.kind == "bytes" else [own]


def describe(codec: type[Codec]) -> CodecDescription:
    """Read what a codec's class, and those that it builds on, say."""
    texts: list[str] = []
    explained: dict[str, str] = {}
    for cls in codec.__mro__:
        if not issubclass(cls, Codec) or cls.__module__ == Codec.__module__:
            continue  # what every codec promises is the contract's page
        text = _docstring(cls)
        explained = dict(_attributes(text)) | explained
        # One that is a codec by itself has its own page.
        if cls is codec or "id" not in vars(cls):
            texts.append(_ATTRIBUTES.sub("", text).strip())
    body = _plain("\n\n".join(filter(None, texts)))
    return CodecDescription(
        id=codec.id,
        kind=_kind(codec),
        summary=" ".join(re.split(r"(?<=\.)\s|\n\n", body, maxsplit=1)[0].split()),
        text=body,
        parameters=tuple(_parameters(codec, explained)),
        source=f"{codec.__module__}:{codec.__qualname__}",
    )


def _kind(codec: type[Codec]) -> Kind:
    if not issubclass(codec, TensorCodec):
        return "bytes"
    if codec.needs_forward:
        return "gradients"
    return "stateful" if codec.may_have_state() else "tensor"


def _docstring(cls: type[Codec]) -> str:
    text = vars(cls).get("__doc__") or ""
    if text.startswith(f"{cls.__name__}("):  # what a dataclass gets that has none
        return ""
    return inspect.cleandoc(text) + "\n"


def _attributes(text: str) -> Iterator[tuple[str, str]]:
    section = _ATTRIBUTES.search(text)
    for name, lines in _ATTRIBUTE.findall(section[1]) if section else ():
        yield name, _plain(" ".join(lines.split()))


def _parameters(codec: type[Codec], texts: Mapping[str, str]) -> Iterator[ParameterDescription]:
    for field in fields(codec):  # type: ignore[arg-type]
        default = default_of(field)
        kind = str(getattr(field.type, "__name__", field.type))
        yield ParameterDescription(
            name=field.name,
            type="codec" if isinstance(default, Codec) else _TYPES.get(kind, kind),
            required=default is MISSING,
            default=_json(default),
            text=texts.get(field.name, ""),
        )


def _json(default: object) -> JsonValue:
    if isinstance(default, Codec):
        return {name: _json(value) for name, value in default.config().items()}
    if default is None or isinstance(default, bool | int | float | str):
        return default
    return None if default is MISSING else str(default)


def _plain(text: str) -> str:
    return text.replace("``", "")
