"""The payload files that one transport object writes."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from slstream.transport.embedded.segments import SegmentWriter

_MAX_UNSYNCED = 64


class Payload:
    """The segment that is appended to, and full ones that are not known to be on the disk.

    Full segments stay open until they are synced, because the kernel may forget a failed write once
    nobody has the file open.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._active: SegmentWriter | None = None
        self._unsynced: list[SegmentWriter] = []

    def active(self) -> SegmentWriter | None:
        """The segment to append to; ``None`` when a new one must be started."""
        if self._active is not None and self._active.full:
            self._unsynced.append(self._active)
            self._active = None
        return self._active

    def overdue(self) -> SegmentWriter | None:
        """A full segment to sync and discard now, so that not too many stay open.

        By now the kernel has written nearly all of it.
        """
        return self._unsynced[0] if len(self._unsynced) > _MAX_UNSYNCED else None

    def start(self, segment: int) -> SegmentWriter:
        """Create the file of a new segment."""
        self._active = SegmentWriter(self._directory, segment)
        return self._active

    def close_synced(self, synced: Mapping[int, int]) -> None:
        """Let go of full segments that are on the disk now, given how many bytes of each are."""
        self.discard([w.segment for w in self._unsynced if synced.get(w.segment) == w.length])

    def discard(self, segments: Collection[int]) -> None:
        """Let go of these full segments: they are on the disk, or no record refers to them."""
        for writer in [w for w in self._unsynced if w.segment in segments]:
            self._unsynced.remove(writer)
            writer.close()

    def close(self) -> None:
        """Release all files; their content stays."""
        for writer in self._files():
            writer.close()
        self._unsynced.clear()
        self._active = None

    def _files(self) -> Sequence[SegmentWriter]:
        return [*self._unsynced, *([self._active] if self._active else [])]
