from __future__ import annotations

import hashlib
import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slstream.errors import InvalidSchema
from slstream.frames.header import FrameKind
from slstream.schemas.document import (
    CONTENTS,
    ContentSchema,
    Schema,
    SchemaKind,
    TensorSchema,
)

from .strategies import VALUES, schemas

DOCUMENT = {
    "format": 1,
    "frame": 1,
    "kind": "activation",
    "tensor": "cut",
    "dtype": "float32",
    "shape": ["batch", 64],
    "codec": [{"id": "ecsq", "step": 0.5}, {"id": "zstd"}],
}
CANONICAL = (
    '{"codec":[{"id":"ecsq","step":0.5},{"id":"zstd"}],"dtype":"float32","format":1,"frame":1,'
    '"kind":"activation","shape":["batch",64],"tensor":"cut"}'
)


def parsed(**changes: object) -> Schema:
    return Schema.from_json(json.dumps({**DOCUMENT, **changes}).encode())


def tensor_schema(**changes: object) -> TensorSchema:
    fields: dict[str, object] = {
        "kind": SchemaKind.ACTIVATION,
        "tensor": "cut",
        "row_shape": (64,),
        "codec": [{"step": 0.5, "id": "ecsq"}, {"id": "zstd"}],
    }
    return TensorSchema.build(**{**fields, **changes})  # type: ignore[arg-type]


def test_kinds_are_the_labels_of_the_frame_kinds() -> None:
    assert [str(kind) for kind in SchemaKind] == [kind.label for kind in FrameKind]


def test_tensor_schema() -> None:
    schema = Schema.from_json(json.dumps(DOCUMENT, indent=2).encode())
    assert schema == tensor_schema()
    assert isinstance(schema, TensorSchema)
    assert schema.document() == DOCUMENT
    assert schema.canonical_json() == CANONICAL
    assert schema.fingerprint == hashlib.sha256(CANONICAL.encode()).hexdigest()
    assert schema.subject == "activation.cut"
    assert schema.codec_ids == ("ecsq", "zstd")
    assert schema.codec_configs() == DOCUMENT["codec"]
    assert schema.shape_for(7) == (7, 64)
    assert tensor_schema(row_shape=()).shape_for(0) == (0,)


@pytest.mark.parametrize(("kind", "content"), CONTENTS.items())
def test_content_schema(kind: SchemaKind, content: str) -> None:
    document = {"format": 1, "frame": 1, "kind": str(kind), "content": content}
    schema = Schema.from_json(json.dumps(document).encode())
    assert isinstance(schema, ContentSchema)
    assert schema == ContentSchema(kind=kind)
    assert schema.document() == document
    assert schema.subject == str(kind)
    assert schema.content == content


@given(schemas(), st.randoms())
def test_round_trip_in_any_order_of_keys(schema: Schema, shuffle: random.Random) -> None:
    text = schema.canonical_json()
    items = list(json.loads(text).items())
    shuffle.shuffle(items)
    for data in (text, json.dumps(dict(items), indent=1)):
        again = Schema.from_json(data.encode())
        assert again == schema
        assert hash(again) == hash(schema)
        assert again.fingerprint == schema.fingerprint


@given(schemas(), schemas())
def test_fingerprints_are_equal_when_schemas_are(one: Schema, other: Schema) -> None:
    assert (one == other) == (one.fingerprint == other.fingerprint)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 2}, "format: expected 1, found 2"),
        ({"format": True}, "format: expected 1, found True"),
        ({"frame": 1.0}, r"frame: expected 1, found 1\.0"),
        ({"kind": "telemetry"}, "kind: expected one of activation, .*found 'telemetry'"),
        ({"kind": None}, "kind: expected one of .*found nothing"),
        ({"kind": ["ids"]}, "kind: expected one of"),
        ({"kind": "control"}, "tensor: unknown key; a document of kind control has the keys"),
        ({"extra": 1}, "extra: unknown key; a document of kind activation has the keys format,"),
        ({"content": "json"}, "content: unknown key"),
        ({"dtype": "float64"}, "dtype: expected 'float32', found 'float64'"),
        ({"tensor": 5}, "tensor: expected text, found 5"),
        ({"tensor": ""}, "tensor: expected words"),
        ({"tensor": "a.b"}, "tensor: expected words of lower-case letters .*found 'a.b'"),
        ({"tensor": "a" * 65}, "tensor: expected words .* at most 64"),
        ({"shape": []}, r'shape: expected a list that begins with "batch", found \[\]'),
        ({"shape": [8, 64]}, 'begins with "batch"'),
        ({"shape": "batch"}, 'begins with "batch"'),
        ({"shape": ["batch", "batch"]}, r"shape\[1\]: expected an integer of 1 or more, found 'ba"),
        ({"shape": ["batch", 3, True]}, r"shape\[2\]: expected an integer .*found True"),
        ({"shape": ["batch", 0]}, r"shape\[1\]: expected an integer of 1 or more, found 0"),
        ({"shape": ["batch", 64.0]}, r"shape\[1\]: .*found 64\.0"),
        ({"shape": ["batch", 1, 1, 1, 1]}, "shape: expected 1 to 4 dimensions, found 5"),
        ({"shape": ["batch", 2**30]}, "shape: expected at most 1073741823 elements in a row"),
        ({"shape": ["batch", 2**32, 2**32]}, "found 18446744073709551616"),
        ({"codec": {}}, "codec: expected a list of codec configs"),
        ({"codec": []}, "codec: expected 1 to 8 codecs, found 0"),
        ({"codec": [{"id": "a"}] * 9}, "codec: expected 1 to 8 codecs, found 9"),
        ({"codec": ["zstd"]}, r"codec\[0\]: expected an object with an id, found 'zstd'"),
        ({"codec": [{"id": "a"}, {}]}, r"codec\[1\]\.id: expected a lower-case word .*found noth"),
        ({"codec": [{"id": "A"}]}, r"codec\[0\]\.id: expected .*found 'A'"),
        ({"codec": [{"id": 3}]}, r"codec\[0\]\.id: expected .*found 3"),
    ],
)
def test_from_json_refuses(changes: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidSchema, match=message):
        parsed(**changes)


@pytest.mark.parametrize("key", DOCUMENT)
def test_every_key_is_needed(key: str) -> None:
    document = {k: v for k, v in DOCUMENT.items() if k != key}
    with pytest.raises(InvalidSchema, match=f"^{key}: "):
        Schema.from_json(json.dumps(document).encode())


def test_content_must_fit_the_kind() -> None:
    document = {"format": 1, "frame": 1, "kind": "ids", "content": "json"}
    with pytest.raises(InvalidSchema, match="content: expected 'digests', found 'json'"):
        Schema.from_json(json.dumps(document).encode())


@pytest.mark.parametrize("data", [b"[]", b"null", b"3", b'"x"'])
def test_only_objects_are_documents(data: bytes) -> None:
    with pytest.raises(InvalidSchema, match="expected a JSON object, found"):
        Schema.from_json(data)


def test_documents_are_bounded() -> None:
    with pytest.raises(InvalidSchema, match="expected at most 65536 bytes"):
        parsed(codec=[{"id": "a", "x": "y" * 65_536}])
    # Below the limit as UTF-8, above it in canonical form, which every reader must be able to read.
    text = json.dumps({**DOCUMENT, "codec": [{"id": "a", "x": "é" * 10_905}]}, ensure_ascii=False)
    with pytest.raises(InvalidSchema, match="at most 65536 bytes in canonical form, found 65"):
        Schema.from_json(text.encode())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": SchemaKind.IDS}, "kind: expected one with a tensor"),
        ({"row_shape": (0,)}, r"shape\[1\]"),
        ({"codec": [{"id": "a", "x": float("inf")}]}, "x: expected a finite number"),
        ({"codec": [{"id": "a", "x": (1,)}]}, "x: expected a JSON value, found a tuple"),
    ],
)
def test_build_refuses(changes: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidSchema, match=message):
        tensor_schema(**changes)


def test_a_chain_has_one_spelling() -> None:
    with pytest.raises(InvalidSchema, match=r"codec\[0\]: expected canonical JSON"):
        TensorSchema(
            kind=SchemaKind.GRADIENT, tensor="cut", row_shape=(), codec=('{"id": "raw32"}',)
        )


def test_a_tensor_kind_has_no_content() -> None:
    with pytest.raises(InvalidSchema, match="kind: expected one without a tensor"):
        ContentSchema(kind=SchemaKind.GRADIENT)


def fuzzed(key: str) -> st.SearchStrategy[dict[str, object]]:
    return VALUES.map(lambda value: {**DOCUMENT, key: value})


@given(st.sampled_from([*DOCUMENT, "content", "x"]).flatmap(fuzzed))
def test_one_hostile_field_raises_documented_errors_only(document: dict[str, object]) -> None:
    try:
        schema = Schema.from_json(json.dumps(document).encode())
    except InvalidSchema:
        return
    assert schema.document() == document


@given(st.integers(0, len(CANONICAL) - 1), st.integers(0, 255), st.booleans())
def test_damaged_documents_raise_documented_errors_only(at: int, byte: int, cut: bool) -> None:
    data = bytearray(CANONICAL.encode())
    data[at] = byte
    try:
        Schema.from_json(bytes(data[:at] if cut else data))
    except InvalidSchema:
        return
