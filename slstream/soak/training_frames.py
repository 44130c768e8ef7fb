"""The training's frames of a link as its log holds them, and how those of two sessions differ."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from slstream.errors import FrameError, RemoteProtocolError
from slstream.frames.frame import Frame
from slstream.frames.header import FrameKind
from slstream.frames.link import FrameReader
from slstream.frames.topics import LinkName
from slstream.transport.contract import StoredRecord

_TRAINING = frozenset({FrameKind.ACTIVATION, FrameKind.GRADIENT})


class Place(NamedTuple):
    """What a training frame is for; each has one frame on its link."""

    kind: str
    epoch: int
    step: int
    micro_batch: int

    def __str__(self) -> str:
        text = f"{self.kind} of epoch {self.epoch}, step {self.step}"
        return f"{text}, micro-batch {self.micro_batch}" if self.micro_batch else text


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingFrames:
    """One link of one session."""

    link: LinkName
    digests: Mapping[Place, bytes]
    """SHA-256 of the payload of each place's first standing frame."""
    repeated: tuple[Place, ...]
    """Places with a second standing frame: it would be applied twice."""
    start: int
    end: int
    """Number of the first training frame, and the one after the last."""
    fences: int
    """Records with which a new incarnation began."""
    duplicates: int
    """Records, but for fences, that were ignored because their number had been taken."""
    fenced: int
    """Records that were ignored because a newer incarnation had begun."""
    abandoned: int
    """Incomplete frames that a newer incarnation gave up."""


class TrainingFolder:
    """Folds a link's records as its receiver does; keeps a digest of each training frame."""

    def __init__(self, link: LinkName) -> None:
        """Begin before the first record."""
        self._link = link
        self._reader = FrameReader()
        self._digests: dict[Place, bytes] = {}
        self._repeated: list[Place] = []
        self._numbers: list[int] = []

    @property
    def frames(self) -> int:
        """Frames of any kind that stand."""
        return self._reader.position.next_sequence

    def push(self, record: StoredRecord) -> None:
        """Take the next record.

        Raises:
            RemoteProtocolError: it is no record of this link.
        """
        try:
            frame = self._reader.push(record.value)
        except FrameError as error:
            raise RemoteProtocolError(
                f"topic {record.topic}, offset {record.offset}: {type(error).__name__}: {error}"
            ) from error
        if frame is not None and frame.kind in _TRAINING:
            self._keep(frame)

    def _keep(self, frame: Frame) -> None:
        place = Place(frame.kind.label, frame.epoch, frame.step, frame.micro_batch)
        self._numbers = [*self._numbers[:1], frame.sequence]  # the first and the last
        if place in self._digests:
            self._repeated.append(place)
        else:
            self._digests[place] = hashlib.sha256(frame.payload).digest()

    @property
    def result(self) -> TrainingFrames:
        """What was folded so far."""
        seen = self._reader.statistics
        return TrainingFrames(
            link=self._link,
            digests=dict(self._digests),
            repeated=tuple(self._repeated),
            start=min(self._numbers, default=0),
            end=max(self._numbers, default=-1) + 1,
            fences=self._reader.fences,
            duplicates=seen.duplicates - self._reader.fences,
            fenced=seen.fenced,
            abandoned=seen.abandoned,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Differences:
    """How a disturbed session's training frames differ from an undisturbed one's."""

    missing: int
    """Places of the undisturbed session without a frame."""
    added: int
    """Places that the undisturbed session does not have."""
    repeated: int
    """Places with more than one standing frame."""
    changed: int
    """Places whose frame has another payload."""
    first: str | None
    """The first of all these, in words."""

    @property
    def total(self) -> int:
        """All of them."""
        return self.missing + self.added + self.repeated + self.changed


def differences(
    undisturbed: Sequence[TrainingFrames], disturbed: Sequence[TrainingFrames]
) -> Differences:
    """Compare the links of two sessions of one federation, by sender and receiver."""
    before = {_ends(frames): frames for frames in undisturbed}
    after = {_ends(frames): frames for frames in disturbed}
    found: dict[str, list[tuple[Place, str]]] = {
        name: [] for name in ("missing", "added", "repeated", "changed")
    }
    for ends in sorted({*before, *after}):
        expected = before[ends].digests if ends in before else {}
        held = after[ends].digests if ends in after else {}
        repeated = after[ends].repeated if ends in after else ()
        for name, places in (
            ("missing", expected.keys() - held.keys()),
            ("added", held.keys() - expected.keys()),
            ("repeated", repeated),
            ("changed", {p for p in expected.keys() & held.keys() if expected[p] != held[p]}),
        ):
            found[name] += [(place, " to ".join(ends)) for place in places]
    worst = [
        (place.epoch, place.step, place.kind, f"{place} from {link} is {name}")
        for name, entries in found.items()
        for place, link in entries
    ]
    counts = {name: len(entries) for name, entries in found.items()}
    return Differences(**counts, first=min(worst)[-1] if worst else None)


def _ends(frames: TrainingFrames) -> tuple[str, str]:
    return frames.link.sender, frames.link.receiver
