"""A whole frame: what one party tells another in one step."""

from __future__ import annotations

from dataclasses import dataclass

from slstream.frames.header import FrameKind


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """Header fields that are the same for all chunks, and the payload that the chunks add up to."""

    kind: FrameKind
    schema_id: int
    """Names the document that explains the payload; 1 or more."""
    incarnation: int
    """Which start of the sending process wrote the frame; 1 or more."""
    sequence: int
    """Number of the frame on its link, from 0, without gaps."""
    epoch: int
    step: int
    micro_batch: int
    window: int
    """How many further steps the sender is ready to buffer."""
    payload: bytes
    """Opaque here; 0 to 2**32 - 1 bytes."""
