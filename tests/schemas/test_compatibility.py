from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slstream.errors import IncompatibleSchema
from slstream.schemas.compatibility import (
    Compatibility,
    Difference,
    check_compatible,
    compatibility_differences,
    reading_differences,
)
from slstream.schemas.document import ContentSchema, Schema, SchemaKind, TensorSchema

from .strategies import schemas

KNOWN = ("raw32", "zstd", "ecsq")


def schema(
    *codec_ids: str,
    kind: SchemaKind = SchemaKind.ACTIVATION,
    tensor: str = "cut",
    row_shape: tuple[int, ...] = (64,),
) -> TensorSchema:
    return TensorSchema.build(
        kind=kind,
        tensor=tensor,
        row_shape=row_shape,
        codec=[{"id": codec_id} for codec_id in codec_ids or ("raw32",)],
    )


def difference(path: str, expected: str, found: str, version: int | None = None) -> Difference:
    return Difference(path=path, expected=expected, found=found, version=version)


@pytest.mark.parametrize(
    ("writer", "expected"),
    [
        (schema(), ()),
        (schema("ecsq", "zstd"), ()),
        (schema(tensor="other"), (difference("tensor", "cut", "other"),)),
        (schema(kind=SchemaKind.GRADIENT), (difference("kind", "activation", "gradient"),)),
        (schema(row_shape=(32,)), (difference("shape[1]", "64", "32"),)),
        (schema(row_shape=(64, 2)), (difference("shape", "2 dimensions", "3 dimensions"),)),
        (
            schema("raw32", "klt"),
            (difference("codec[1].id", "one of ecsq, raw32, zstd", "klt"),),
        ),
        (
            ContentSchema(kind=SchemaKind.IDS),
            (
                difference("kind", "activation", "ids"),
                difference("tensor", "cut", "None"),
                difference("dtype", "float32", "None"),
                difference("content", "None", "digests"),
            ),
        ),
    ],
)
def test_reading_differences(writer: Schema, expected: tuple[Difference, ...]) -> None:
    assert reading_differences(schema(), writer, KNOWN) == expected


def test_the_codec_of_the_reader_does_not_matter() -> None:
    assert reading_differences(schema("klt"), schema(), KNOWN) == ()


def test_a_reader_without_codecs_says_so() -> None:
    expected = (difference("codec[0].id", "no codec", "raw32"),)
    assert reading_differences(schema(), schema(), ()) == expected


OLD, LATEST = schema("klt"), schema("raw32")


@pytest.mark.parametrize(
    ("compatibility", "new", "versions", "found"),
    [
        # The old version was written with a codec that readers of the new one do not know.
        ("NONE", schema(), [OLD], []),
        ("BACKWARD", schema(), [OLD], [1]),
        ("BACKWARD", schema(), [OLD, LATEST], []),
        ("BACKWARD_TRANSITIVE", schema(), [OLD, LATEST], [1]),
        ("FORWARD", schema(), [OLD], []),
        ("FORWARD_TRANSITIVE", schema(), [OLD, LATEST], []),
        ("FULL", schema(), [OLD], [1]),
        ("FULL", schema(), [OLD, LATEST], []),
        ("FULL_TRANSITIVE", schema(), [OLD, LATEST], [1]),
        # The new version is written with a codec that readers of the old ones do not know.
        ("BACKWARD", schema("klt"), [LATEST, LATEST], []),
        ("BACKWARD_TRANSITIVE", schema("klt"), [LATEST, LATEST], []),
        ("FORWARD", schema("klt"), [LATEST, LATEST], [2]),
        ("FORWARD_TRANSITIVE", schema("klt"), [LATEST, LATEST], [1, 2]),
        ("FULL", schema("klt"), [LATEST, LATEST], [2]),
        ("FULL_TRANSITIVE", schema("klt"), [LATEST, LATEST], [1, 2]),
        # Nothing came before.
        ("FULL_TRANSITIVE", schema("klt"), [], []),
    ],
)
def test_rules(compatibility: str, new: Schema, versions: list[Schema], found: list[int]) -> None:
    differences = compatibility_differences(new, versions, Compatibility(compatibility), KNOWN)
    assert [d.version for d in differences] == found
    assert {d.path for d in differences} <= {"codec[0].id"}


def test_both_directions_of_full_are_reported() -> None:
    new = schema(row_shape=(32,))
    assert compatibility_differences(new, [schema()], Compatibility.FULL, KNOWN) == (
        difference("shape[1]", "32", "64", 1),
        difference("shape[1]", "64", "32", 1),
    )


def test_check_compatible_names_the_field() -> None:
    check_compatible(schema("zstd"), [schema()], Compatibility.FULL_TRANSITIVE, KNOWN)
    with pytest.raises(IncompatibleSchema) as caught:
        check_compatible(schema(row_shape=(32,)), [schema("klt")], Compatibility.BACKWARD, KNOWN)
    assert str(caught.value) == (
        "schema activation.cut is not BACKWARD compatible: "
        "shape[1]: expected 32, found 64 (against version 1); "
        "codec[0].id: expected one of ecsq, raw32, zstd, found klt (against version 1)"
    )


@given(schemas(), st.lists(schemas(), max_size=3))
def test_full_is_backward_and_forward(new: Schema, versions: list[Schema]) -> None:
    def differences(rule: Compatibility) -> set[Difference]:
        return set(compatibility_differences(new, versions, rule, ("a", "b")))

    assert differences(Compatibility.NONE) == set()
    assert differences(Compatibility.FULL) == differences(Compatibility.BACKWARD) | differences(
        Compatibility.FORWARD
    )
    assert differences(Compatibility.FULL) <= differences(Compatibility.FULL_TRANSITIVE)
