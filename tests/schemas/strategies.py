"""Hypothesis strategies for JSON values and schemas."""

from __future__ import annotations

import string

from hypothesis import strategies as st

from slstream.schemas.canonical_json import MAX_INTEGER, Json
from slstream.schemas.document import CONTENTS, ContentSchema, Schema, SchemaKind, TensorSchema

SCALARS: st.SearchStrategy[Json] = (
    st.none()
    | st.booleans()
    | st.integers(-MAX_INTEGER, MAX_INTEGER)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=10)
)
VALUES: st.SearchStrategy[Json] = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=5,
).filter(lambda value: _depth(value) <= 5)
CODEC_IDS = st.text(string.ascii_lowercase, min_size=1, max_size=4)
TENSOR_KINDS = [kind for kind in SchemaKind if kind not in CONTENTS]


def _depth(value: Json) -> int:
    inner = (
        value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    )
    return 0 if inner is None else 1 + max(map(_depth, inner), default=0)


@st.composite
def tensor_schemas(draw: st.DrawFn) -> TensorSchema:
    configs = draw(
        st.lists(
            st.dictionaries(st.text(max_size=5), VALUES, max_size=3).flatmap(
                lambda config: CODEC_IDS.map(lambda codec_id: {**config, "id": codec_id})
            ),
            min_size=1,
            max_size=3,
        )
    )
    return TensorSchema.build(
        kind=draw(st.sampled_from(TENSOR_KINDS)),
        tensor=draw(st.sampled_from(["cut", "cut-bob", "a_1"])),
        row_shape=draw(st.lists(st.integers(1, 500), max_size=3)),
        codec=configs,
    )


def schemas() -> st.SearchStrategy[Schema]:
    contents: st.SearchStrategy[Schema] = st.sampled_from(sorted(CONTENTS)).map(
        lambda kind: ContentSchema(kind=kind)
    )
    return tensor_schemas() | contents
