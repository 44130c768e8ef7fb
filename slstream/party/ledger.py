"""What a party has sent: frames and bytes by receiver, kind and codec."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from slstream.frames.header import FrameKind
from slstream.party.summary import Traffic


@dataclass(slots=True)
class _Count:
    frames: int = 0
    raw_bytes: int = 0
    wire_bytes: int = 0


class Ledger:
    """Counts every frame of one sender."""

    def __init__(self, sender: str) -> None:
        """Start with nothing sent."""
        self._sender = sender
        self._counts: dict[tuple[str, str, str], _Count] = {}
        self.raw_bytes = 0
        """Total, had every tensor been sent as float32 in the same framing."""
        self.wire_bytes = 0
        """Total, with all headers."""

    def clear(self) -> None:
        """Begin anew, for another session."""
        self._counts.clear()
        self.raw_bytes = self.wire_bytes = 0

    def restore(self, traffic: Sequence[Traffic]) -> None:
        """Go on from what :meth:`traffic` said."""
        self.clear()
        for entry in traffic:
            self._counts[entry.receiver, entry.kind, entry.codec] = _Count(
                entry.frames, entry.raw_bytes, entry.wire_bytes
            )
            self.raw_bytes += entry.raw_bytes
            self.wire_bytes += entry.wire_bytes

    def count(
        self, receiver: str, kind: FrameKind, codec: str, *, raw_bytes: int, wire_bytes: int
    ) -> None:
        """Add one frame."""
        # All that is not a tensor (messages, id digests, bitmaps) is reported as one kind.
        tensor = kind in (FrameKind.ACTIVATION, FrameKind.GRADIENT, FrameKind.EVALUATION)
        key = (receiver, kind.label if tensor else FrameKind.CONTROL.label, codec)
        entry = self._counts.setdefault(key, _Count())
        entry.frames += 1
        entry.raw_bytes += raw_bytes
        entry.wire_bytes += wire_bytes
        self.raw_bytes += raw_bytes
        self.wire_bytes += wire_bytes

    def traffic(self) -> list[Traffic]:
        """One entry per receiver, kind and codec, sorted."""
        return [
            Traffic(
                sender=self._sender,
                receiver=receiver,
                kind=kind,
                codec=codec,
                frames=count.frames,
                raw_bytes=count.raw_bytes,
                wire_bytes=count.wire_bytes,
            )
            for (receiver, kind, codec), count in sorted(self._counts.items())
        ]
