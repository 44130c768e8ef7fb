"""Hypothesis strategies for headers and frames."""

from __future__ import annotations

from hypothesis import strategies as st

from slstream.frames.frame import Frame
from slstream.frames.header import FrameHeader, FrameKind

U16 = st.integers(0, 2**16 - 1)
U32 = st.integers(0, 2**32 - 1)


@st.composite
def headers(draw: st.DrawFn) -> FrameHeader:
    chunk_count = draw(st.integers(1, 2**16 - 1) | st.just(1))
    smallest_payload = chunk_count if chunk_count > 1 else 0
    return FrameHeader(
        kind=draw(st.sampled_from(FrameKind)),
        schema_id=draw(st.integers(1, 2**32 - 1)),
        incarnation=draw(st.integers(1, 2**32 - 1)),
        sequence=draw(st.integers(0, 2**64 - 1)),
        epoch=draw(U16),
        step=draw(U32),
        micro_batch=draw(U16),
        window=draw(U16),
        chunk_index=draw(st.integers(0, chunk_count - 1)),
        chunk_count=chunk_count,
        payload_bytes=draw(st.integers(smallest_payload, 2**32 - 1)),
    )


@st.composite
def frames(
    draw: st.DrawFn, *, sequence: int | None = None, incarnation: int | None = None
) -> Frame:
    return Frame(
        kind=draw(st.sampled_from(FrameKind)),
        schema_id=draw(st.integers(1, 2**32 - 1)),
        incarnation=draw(st.integers(1, 2**32 - 1)) if incarnation is None else incarnation,
        sequence=draw(st.integers(0, 2**64 - 1)) if sequence is None else sequence,
        epoch=draw(U16),
        step=draw(U32),
        micro_batch=draw(U16),
        window=draw(U16),
        payload=draw(st.binary(max_size=200)),
    )
