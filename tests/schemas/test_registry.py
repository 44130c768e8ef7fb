from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slstream.errors import UnknownSchema
from slstream.schemas import registry as registry_module
from slstream.schemas.document import ContentSchema, Schema, SchemaKind, TensorSchema
from slstream.schemas.registry import RegisteredSchema, RegistryFold

from .strategies import schemas

CONTROL = ContentSchema(kind=SchemaKind.CONTROL)
CUT_64 = TensorSchema.build(
    kind=SchemaKind.ACTIVATION, tensor="cut", row_shape=(64,), codec=[{"id": "raw32"}]
)
CUT_32 = TensorSchema.build(
    kind=SchemaKind.ACTIVATION, tensor="cut", row_shape=(32,), codec=[{"id": "raw32"}]
)


def data(schema: Schema) -> bytes:
    return schema.canonical_json().encode()


def folded(*values: bytes) -> RegistryFold:
    fold = RegistryFold()
    for offset, value in enumerate(values):
        fold.apply(offset, value)
    return fold


def test_an_id_is_the_offset_of_the_first_record_plus_one() -> None:
    fold = RegistryFold()
    assert fold.apply(0, data(CUT_64)) == 1
    assert fold.apply(1, b"garbage") is None
    assert fold.apply(2, data(CONTROL)) == 3
    assert fold.apply(3, b" " + data(CUT_64)) == 1
    assert fold.apply(4, data(CUT_32)) == 5
    assert fold.get(1) == CUT_64
    assert fold.get(3) == CONTROL
    assert fold.id_of(CUT_64) == 1
    assert fold.id_of(CUT_32) == 5
    assert fold.next_offset == 5
    assert fold.skipped == 1


def test_versions_of_a_subject() -> None:
    fold = folded(data(CUT_64), data(CONTROL), data(CUT_64), data(CUT_32))
    assert fold.subjects() == ("activation.cut", "control")
    assert fold.versions("activation.cut") == (
        RegisteredSchema(schema_id=1, version=1, schema=CUT_64),
        RegisteredSchema(schema_id=4, version=2, schema=CUT_32),
    )
    assert fold.versions("nothing") == ()


@pytest.mark.parametrize("offset", [0, 2, -1])
def test_a_missing_or_repeated_record_is_refused(offset: int) -> None:
    fold = folded(data(CUT_64))
    with pytest.raises(ValueError, match=f"expected the record at offset 1, found {offset}"):
        fold.apply(offset, data(CONTROL))
    assert fold.apply(1, data(CONTROL)) == 2


def test_unknown_schemas_say_what_is_known() -> None:
    empty = RegistryFold()
    with pytest.raises(
        UnknownSchema, match="schema id 7: expected one of none, as no schema is registered in 0"
    ):
        empty.get(7)
    fold = folded(data(CUT_64), b"", data(CUT_64))
    for schema_id in (0, 2, 3, 4):
        with pytest.raises(UnknownSchema, match=rf"id {schema_id}: .*1 ids .* in 3 records \(1\)"):
            fold.get(schema_id)
    with pytest.raises(
        UnknownSchema, match=f"schema control with fingerprint {CONTROL.fingerprint}: expected"
    ):
        fold.id_of(CONTROL)


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        registry_module, "MAX_REGISTRY_BYTES", len(data(CUT_64)) + len(data(CONTROL))
    )
    fold = folded(data(CUT_64), data(CUT_32), data(CONTROL), data(CUT_64))
    assert fold.get(1) == CUT_64
    assert fold.get(3) == CONTROL
    assert fold.skipped == 1
    with pytest.raises(UnknownSchema):
        fold.get(2)


@given(st.lists(schemas().map(data) | st.binary(max_size=20), max_size=12))
def test_agrees_with_a_search_of_the_log(values: list[bytes]) -> None:
    fold = folded(*values)
    canonical = [Schema.from_json(v) if v[:1] == b"{" and v[-1:] == b"}" else None for v in values]
    for offset, schema in enumerate(canonical):
        if schema is None:
            continue
        first = canonical.index(schema)
        assert fold.id_of(schema) == first + 1
        assert fold.get(first + 1) == schema
        if first != offset:
            with pytest.raises(UnknownSchema):
                fold.get(offset + 1)
    assert fold.skipped == canonical.count(None)
    assert sum(len(fold.versions(s)) for s in fold.subjects()) == len(set(canonical) - {None})
