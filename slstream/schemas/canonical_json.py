r"""JSON with one spelling for each value, read strictly.

The canonical form is what fingerprints are computed over. Its rules:

- no white space; object keys sorted by code point; ASCII only, other characters as ``\uXXXX``
  escapes of UTF-16 with lower-case digits;
- integers in decimal, between ``-(2**53 - 1)`` and ``2**53 - 1``, so that no reader rounds them;
- other numbers are finite doubles, written as the shortest text that reads back to the same double
  (Python's ``repr``), which always holds a ``.``, an ``e`` or both: ``1`` and ``1.0`` differ;
- at most 8 levels of arrays and objects.
"""

from __future__ import annotations

import json
import math
from typing import NoReturn

from slstream.errors import InvalidSchema

MAX_DEPTH = 8
MAX_INTEGER = 2**53 - 1

Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]


def parse_json(data: bytes, max_bytes: int) -> Json:
    """Read foreign bytes.

    Args:
        data: UTF-8 text of one JSON value, in any spelling.
        max_bytes: larger input is refused unread.

    Raises:
        InvalidSchema: too large, not UTF-8, not JSON, a repeated key, NaN or infinity, a number
            outside its range, or too deep; the message says where, as in ``codec[0].bits``.
    """
    if len(data) > max_bytes:
        raise InvalidSchema(f"expected at most {max_bytes} bytes of JSON, found {len(data)}")
    try:
        value: Json = json.loads(
            bytes(data).decode(), object_pairs_hook=_object, parse_constant=_refuse_constant
        )
    except UnicodeDecodeError as error:
        raise InvalidSchema(f"expected UTF-8 text, found bytes that are not: {error}") from error
    except RecursionError as error:
        raise InvalidSchema(f"expected at most {MAX_DEPTH} levels, found far more") from error
    except ValueError as error:
        raise InvalidSchema(f"expected JSON: {error}") from error
    check_json(value)
    return value


def canonical_json(value: object) -> str:
    """The canonical text of a value.

    Raises:
        InvalidSchema: it is not made of JSON's types, or breaks a rule of the form.
    """
    check_json(value)
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def check_json(value: object, path: str = "", depth: int = 0) -> None:
    """Check types, ranges and depth.

    Raises:
        InvalidSchema: naming the path of the first value that breaks a rule.
    """
    # Exact types: a bool is not a number, and subclasses could be written differently.
    if isinstance(value, list | dict) and depth == MAX_DEPTH:
        raise InvalidSchema(f"{_where(path)}expected at most {MAX_DEPTH} levels, found more")
    kind = type(value)
    if kind is list and isinstance(value, list):
        for index, item in enumerate(value):
            check_json(item, f"{path}[{index}]", depth + 1)
    elif kind is dict and isinstance(value, dict):
        for key, item in value.items():
            if type(key) is not str:
                raise InvalidSchema(f"{_where(path)}expected keys to be text, found {key!r:.80}")
            check_json(item, f"{path}.{key[:40]}" if path else key[:40], depth + 1)
    elif kind is int and isinstance(value, int):
        if abs(value) > MAX_INTEGER:
            raise InvalidSchema(
                f"{_where(path)}expected an integer of at most {MAX_INTEGER} in size, "
                f"found one of {value.bit_length()} bits"
            )
    elif kind is float and isinstance(value, float):
        if not math.isfinite(value):
            raise InvalidSchema(f"{_where(path)}expected a finite number, found {value}")
    elif value is not None and kind not in (bool, str):
        raise InvalidSchema(f"{_where(path)}expected a JSON value, found a {kind.__name__}")


def _where(path: str) -> str:
    return f"{path}: " if path else ""


def _object(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    found: dict[str, Json] = {}
    for key, value in pairs:
        if key in found:
            raise InvalidSchema(f"expected each key once, found {key[:80]!r} twice in one object")
        found[key] = value
    return found


def _refuse_constant(name: str) -> NoReturn:
    raise InvalidSchema(f"expected finite numbers, found {name}")
