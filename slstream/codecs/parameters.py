"""A codec's JSON config: read into a dataclass, written from it, refused by name.

The fields of a codec's dataclass are its parameters; nothing else is written to a config. A
parameter may itself be a tensor codec (:func:`require_codec`), whose config is then nested:
``{"id": "topk", "fraction": 0.1, "values": {"id": "q8row", ...}}``.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from slstream.errors import CodecConfigError, CodecError

if TYPE_CHECKING:  # the contract builds on this module
    from slstream.codecs.contract import Codec, TensorCodec

CodecT = TypeVar("CodecT", bound="Codec")


def nearest(name: str, known: Sequence[str]) -> str:
    """``"; did you mean 'x'?"`` for the closest of ``known``, or an empty string."""
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def write_config(codec: Codec) -> dict[str, object]:
    """``{"id": ..., <every field of the dataclass>}``, defaults and nested configs included."""
    from slstream.codecs.contract import Codec  # builds on this module

    config: dict[str, object] = {"id": codec.id}
    for field in dataclasses.fields(codec):  # type: ignore[arg-type]
        value = getattr(codec, field.name)
        config[field.name] = value.config() if isinstance(value, Codec) else value
    return config


def short_text(codec: Codec) -> str:
    """``id(name=value,...)`` with the parameters that differ from their defaults."""
    changed = []
    for field in dataclasses.fields(codec):  # type: ignore[arg-type]
        value = getattr(codec, field.name)
        if value != default_of(field):
            text = f"{value:g}" if isinstance(value, float) else str(value)
            changed.append(f"{field.name}={text}")
    return f"{codec.id}({','.join(changed)})" if changed else codec.id


def read_config(cls: type[CodecT], config: Mapping[str, object]) -> CodecT:
    """Build ``cls`` from a config; the class checks the values when it is constructed.

    Raises:
        CodecConfigError: an id of another codec, an unknown key, a parameter without a default that
            is missing, or a value out of range.
    """
    if config.get("id") != cls.id:
        raise CodecConfigError(
            f"expected a config of codec {cls.id!r}, got id {config.get('id')!r}"
        )
    known = [field.name for field in dataclasses.fields(cls)]  # type: ignore[arg-type]
    values: dict[str, Any] = {}
    for key, value in config.items():
        if key == "id":
            continue
        if key not in known:
            allowed = ", ".join(known) if known else "none"
            raise CodecConfigError(
                f"codec {cls.id!r} has no parameter {key!r} (parameters: {allowed})"
                f"{nearest(str(key), known)}"
            )
        values[key] = value
    for field in dataclasses.fields(cls):  # type: ignore[arg-type]
        if default_of(field) is dataclasses.MISSING and field.name not in values:
            raise CodecConfigError(f"codec {cls.id!r} needs the parameter {field.name!r}")
    return cls(**values)


def default_of(field: dataclasses.Field[Any]) -> object:
    """The value of a parameter that a config leaves out; ``MISSING`` when it must not."""
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default


def require_choice(codec: Codec, name: str, allowed: Sequence[str]) -> None:
    """Refuse a text parameter that is not one of ``allowed``.

    Raises:
        CodecConfigError: names the parameter, the value and what is allowed.
    """
    value = getattr(codec, name)
    if not isinstance(value, str) or value not in allowed:
        hint = nearest(value, allowed) if isinstance(value, str) else ""
        raise CodecConfigError(
            f"{name} of codec {codec.id!r} must be one of {', '.join(allowed)}; got {value!r}{hint}"
        )


def require_flag(codec: Codec, name: str) -> None:
    """Refuse a parameter that is neither true nor false.

    Raises:
        CodecConfigError: names the parameter and the value.
    """
    value = getattr(codec, name)
    if not isinstance(value, bool):
        raise CodecConfigError(f"{name} of codec {codec.id!r} must be true or false; got {value!r}")


def require_integer(codec: Codec, name: str, low: int, high: int, *, or_zero: bool = False) -> None:
    """Refuse a parameter that is not an integer from ``low`` to ``high``, or 0 if that may be.

    Raises:
        CodecConfigError: names the parameter, the value and the range.
    """
    value = getattr(codec, name)
    is_integer = isinstance(value, int) and not isinstance(value, bool)
    if not is_integer or not (low <= value <= high or (or_zero and value == 0)):
        zero = "0 or " if or_zero else ""
        raise CodecConfigError(
            f"{name} of codec {codec.id!r} must be {zero}an integer from {low} to {high}; "
            f"got {value!r}"
        )


def require_number(codec: Codec, name: str, low: float, high: float) -> None:
    """Refuse a parameter that is not a number from ``low`` to ``high``; store it as a float.

    A float, so that ``1`` and ``1.0`` in a config have the same canonical form.

    Raises:
        CodecConfigError: names the parameter, the value and the range.
    """
    value = getattr(codec, name)
    if (
        not isinstance(value, int | float)
        or isinstance(value, bool)
        or not math.isfinite(value)
        or not low <= value <= high
    ):
        raise CodecConfigError(
            f"{name} of codec {codec.id!r} must be a number from {low:g} to {high:g}; got {value!r}"
        )
    object.__setattr__(codec, name, float(value))


def require_codec(codec: Codec, name: str) -> None:
    """Refuse a parameter that is not a codec of tensors; store the one that it describes.

    The field may hold a config, an id (its defaults), or a codec that is built already, as a
    ``default_factory`` gives. A codec inside a codec has none inside itself: that keeps what a
    schema's configs can ask for, and how deep reading them goes, bounded.

    Raises:
        CodecConfigError: not a codec of tensors, one that has a codec inside or a state, or a
            config that its codec refuses; the message names the parameter of the outer codec first.
        UnknownCodec: no codec has this id.
    """
    built = _build_codec(getattr(codec, name), f"{name} of codec {codec.id!r}")
    object.__setattr__(codec, name, built)


def _build_codec(value: object, where: str) -> TensorCodec:
    # Built on this module: importing them above would be a cycle.
    from slstream.codecs.contract import Codec, TensorCodec
    from slstream.codecs.registry import codec_from_config

    config = {"id": value} if isinstance(value, str) else value
    if isinstance(config, Mapping):
        # Looked at before anything is built: a foreign document may nest as deep as it likes.
        inner = [key for key, each in config.items() if _holds_config(each)]
        if inner:
            raise CodecConfigError(_too_deep(where, str(config.get("id")), inner[0]))
        try:
            value = codec_from_config(config)
        except CodecError as exc:
            raise type(exc)(f"{where}: {exc}") from exc
    if not isinstance(value, Codec):
        raise CodecConfigError(
            f'{where} must be a codec of tensors, such as {{"id": "q8row"}}; got {value!r}'
        )
    if not isinstance(value, TensorCodec):
        raise CodecConfigError(
            f"{where} must be a codec of tensors; {value.id!r} is a codec of bytes: put it behind "
            "the outer codec in the chain"
        )
    if value.may_have_state():
        raise CodecConfigError(
            f"{where} must be a codec without a state; {value.id!r} remembers earlier tensors: use "
            "it by itself"
        )
    for field in dataclasses.fields(value):  # type: ignore[arg-type]
        if isinstance(getattr(value, field.name), Codec):
            raise CodecConfigError(_too_deep(where, value.id, field.name))
    return value


def _holds_config(value: object) -> bool:
    """Whether a parameter may be the config of a codec, or a list with some."""
    if isinstance(value, list):
        return any(isinstance(each, Mapping) for each in value)
    return isinstance(value, Mapping)


def _too_deep(where: str, codec_id: str, name: str) -> str:
    return (
        f"{where} must be a codec without another inside; {codec_id!r} has one as its {name!r}: "
        "keep one of the two"
    )
