"""A codec's JSON config: read into a dataclass, written from it, refused by name.

The fields of a codec's dataclass are its parameters; nothing else is written to a config.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from slstream.errors import CodecConfigError

if TYPE_CHECKING:  # the contract builds on this module
    from slstream.codecs.contract import Codec

CodecT = TypeVar("CodecT", bound="Codec")


def nearest(name: str, known: Sequence[str]) -> str:
    """``"; did you mean 'x'?"`` for the closest of ``known``, or an empty string."""
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def write_config(codec: Codec) -> dict[str, object]:
    """``{"id": ..., <every field of the dataclass>}``, defaults included."""
    fields = dataclasses.fields(codec)  # type: ignore[arg-type]
    return {"id": codec.id, **{field.name: getattr(codec, field.name) for field in fields}}


def short_text(codec: Codec) -> str:
    """``id(name=value,...)`` with the parameters that differ from their defaults."""
    changed = []
    for field in dataclasses.fields(codec):  # type: ignore[arg-type]
        value = getattr(codec, field.name)
        if value != field.default:
            text = f"{value:g}" if isinstance(value, float) else str(value)
            changed.append(f"{field.name}={text}")
    return f"{codec.id}({','.join(changed)})" if changed else codec.id


def read_config(cls: type[CodecT], config: Mapping[str, object]) -> CodecT:
    """Build ``cls`` from a config; the class checks the values when it is constructed.

    Raises:
        CodecConfigError: an id of another codec, an unknown key, or a value out of range.
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
    return cls(**values)


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


def require_integer(codec: Codec, name: str, low: int, high: int) -> None:
    """Refuse a parameter that is not an integer from ``low`` to ``high``.

    Raises:
        CodecConfigError: names the parameter, the value and the range.
    """
    value = getattr(codec, name)
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise CodecConfigError(
            f"{name} of codec {codec.id!r} must be an integer from {low} to {high}; got {value!r}"
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
