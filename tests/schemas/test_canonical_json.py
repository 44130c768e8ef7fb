from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slstream.errors import InvalidSchema
from slstream.schemas.canonical_json import Json, canonical_json, check_json, parse_json

from .strategies import VALUES


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"b": 1, "a": [True, None, "x"], "B": {}}, '{"B":{},"a":[true,null,"x"],"b":1}'),
        ({"é": "é😀\n"}, '{"\\u00e9":"\\u00e9\\ud83d\\ude00\\n"}'),
        (2**53 - 1, "9007199254740991"),
        (-(2**53 - 1), "-9007199254740991"),
        (1.0, "1.0"),
        (0.1, "0.1"),
        (-0.0, "-0.0"),
        (1e22, "1e+22"),
        (1e-7, "1e-07"),
        (5e-324, "5e-324"),
    ],
)
def test_canonical_text(value: Json, text: str) -> None:
    assert canonical_json(value) == text
    assert parse_json(text.encode(), 1000) == value


@given(VALUES)
def test_round_trip_of_any_spelling(value: Json) -> None:
    text = canonical_json(value)
    spelled = json.dumps(value, indent=3, ensure_ascii=False).encode(errors="surrogatepass")
    try:
        parsed = parse_json(spelled, 100_000)
    except InvalidSchema as error:
        assert "UTF-8" in str(error)  # a lone surrogate has no UTF-8  # noqa: PT017
        return
    assert canonical_json(parsed) == text
    assert canonical_json(parse_json(text.encode(), 100_000)) == text


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "expected JSON"),
        (b"{", "expected JSON"),
        (b"1 2", "expected JSON: Extra data"),
        (b"\xef\xbb\xbf1", "expected JSON"),
        (b"\xff", "expected UTF-8 text"),
        (b"NaN", "expected finite numbers, found NaN"),
        (b"[-Infinity]", "found -Infinity"),
        (b'{"a":{"b":[0,1e999]}}', r"a\.b\[1\]: expected a finite number, found inf"),
        (b"9007199254740992", "expected an integer of at most 9007199254740991 in size"),
        (b"-9007199254740992", "expected an integer of at most 9007199254740991 in size"),
        (b"[" + b"1" * 900 + b"]", r"\[0\]: expected an integer .* found one of 2987 bits"),
        (b"1" * 999, "3316 bits"),
        (b'{"a":1,"a":1}', "expected each key once, found 'a' twice"),
        (b"[" * 9 + b"]" * 9, "expected at most 8 levels, found more"),
        (b" " * 1001, "expected at most 1000 bytes of JSON, found 1001"),
    ],
)
def test_parse_refuses(data: bytes, message: str) -> None:
    with pytest.raises(InvalidSchema, match=message):
        parse_json(data, 1000)


@pytest.mark.parametrize("data", [b"[" * 60_000, b'{"a":' * 10_000, b"1" * 60_000])
def test_parse_survives_what_exhausts_parsers(data: bytes) -> None:
    with pytest.raises(InvalidSchema):
        parse_json(data, 65_536)


@given(
    st.binary(max_size=40)
    | st.text('[]{}",:0123456789.eE+-truefalsn\\u ', max_size=40).map(str.encode)
)
def test_random_bytes_raise_documented_errors_only(data: bytes) -> None:
    try:
        value = parse_json(data, 100)
    except InvalidSchema:
        return
    check_json(value)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"a": (1, 2)}, "a: expected a JSON value, found a tuple"),
        ({"a": [b"x"]}, r"a\[0\]: expected a JSON value, found a bytes"),
        ({1: 2}, "expected keys to be text, found 1"),
        (float("nan"), "expected a finite number, found nan"),
        (2**53, "expected an integer"),
        (type("Sub", (int,), {})(3), "found a Sub"),
        (type("Sub", (dict,), {})(), "found a Sub"),
    ],
)
def test_canonical_json_refuses(value: object, message: str) -> None:
    with pytest.raises(InvalidSchema, match=message):
        canonical_json(value)
