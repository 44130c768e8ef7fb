"""What one link's log holds, counted record by record."""

from __future__ import annotations

from dataclasses import dataclass

from slstream.errors import FrameError
from slstream.frames.frame import Frame
from slstream.frames.header import FrameKind
from slstream.frames.link import FrameReader
from slstream.frames.topics import LinkName
from slstream.frames.wire_size import wire_size
from slstream.transport.contract import StoredRecord

MOST_INCARNATIONS = 10_000
"""Incarnations of a link that are told apart; a hostile log could name any number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkTally:
    """One link of one session, from its first kept record to its end."""

    link: LinkName
    records: int
    wire_bytes: int
    """Of all records, also of those that no reader takes."""
    frames: int
    """Frames that stand: what a receiver takes."""
    fences: int
    """Records with which a new incarnation began and that say nothing else."""
    duplicates: int
    """Records, but for fences, that were ignored because their number had been taken."""
    fenced: int
    abandoned: int
    """As in :class:`slstream.frames.link.LinkStatistics`."""
    incarnations: frozenset[int]
    """Those that have begun, at most :data:`MOST_INCARNATIONS`."""
    epoch: int
    """Of the last standing gradient; 0 without one."""
    steps: int
    """Training steps, over all epochs, whose gradient stands."""
    first_ms: int | None
    last_ms: int | None
    """Milliseconds since the Unix epoch of the first and last record; informative."""
    problem: str | None
    """Why this is no link that a party could follow, with topic and offset. Frames behind that
    place are not known; records and bytes are counted on."""


class LinkCounter:
    """Folds a link's records into a :class:`LinkTally` with the rules that its receiver uses.

    Holds what :class:`slstream.frames.link.FrameReader` holds, whatever the records are.
    """

    def __init__(self, link: LinkName) -> None:
        """Begin before the first record."""
        self._link = link
        self._reader = FrameReader()
        self._records = self._wire_bytes = 0
        self._newest = 0
        self._incarnations: set[int] = set()
        self._reached = (0, 0)
        self._steps = 0
        self._first_ms: int | None = None
        self._last_ms: int | None = None
        self._problem: str | None = None

    def push(self, record: StoredRecord) -> None:
        """Count the next record of the link."""
        self._records += 1
        self._wire_bytes += wire_size(record)
        if self._first_ms is None:
            self._first_ms = record.timestamp_ms
        self._last_ms = record.timestamp_ms
        if self._problem is not None:
            return
        try:
            frame = self._reader.push(record.value)
        except FrameError as error:
            where = f"topic {record.topic}, offset {record.offset}"
            self.fail(f"{where}: {type(error).__name__}: {error}")
            return
        incarnation = self._reader.position.incarnation
        if incarnation > self._newest:
            self._newest = incarnation
            if len(self._incarnations) < MOST_INCARNATIONS:
                self._incarnations.add(incarnation)
        if frame is not None and frame.kind is FrameKind.GRADIENT:
            self._reach(frame)

    def fail(self, problem: str) -> None:
        """Note why the link cannot be followed; the first reason stands."""
        self._problem = self._problem or problem

    def _reach(self, frame: Frame) -> None:
        place = (frame.epoch, frame.step)
        self._steps += place != self._reached  # the micro-batches of a step are one step
        self._reached = place

    @property
    def tally(self) -> LinkTally:
        """The counts so far."""
        seen = self._reader.statistics
        return LinkTally(
            link=self._link,
            records=self._records,
            wire_bytes=self._wire_bytes,
            frames=seen.frames,
            fences=self._reader.fences,
            duplicates=seen.duplicates - self._reader.fences,
            fenced=seen.fenced,
            abandoned=seen.abandoned,
            incarnations=frozenset(self._incarnations),
            epoch=self._reached[0],
            steps=self._steps,
            first_ms=self._first_ms,
            last_ms=self._last_ms,
            problem=self._problem,
        )
