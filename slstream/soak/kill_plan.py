"""Which processes are killed, and when: at places in the log, never at times."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from slstream.seeds import derive_seed

ALL_SHARE = 0.2
CHECKPOINT_SHARE = 0.2
"""Shares of the kills; the others hit one party."""


class KillKind(StrEnum):
    """Who is killed, and at what."""

    ONE = "one"
    """One party, wherever it is."""
    ALL = "all"
    """All parties at once."""
    CHECKPOINT = "checkpoint"
    """One party, while it writes its next checkpoint."""


LAST_PLACE = 0.95
"""Share of the training after which nobody is killed: the session shall not end before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingPart:
    """Which frames of a link belong to the training."""

    sender: str
    receiver: str
    start: int
    """Number of the first frame of a training step."""
    end: int
    """Number after that of the last one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kill:
    """One disturbance: as soon as ``frames`` frames of a link stand."""

    sender: str
    receiver: str
    frames: int
    kind: KillKind
    party: str
    """Who is killed; one of many when it is all."""
    latest: int
    """Frames of the link at which a kill within a checkpoint is done without one."""


def plan_kills(
    parts: Sequence[TrainingPart],
    parties: Sequence[str],
    *,
    kills: int,
    seed: int,
    checkpoint_every: float,
) -> tuple[Kill, ...]:
    """Spread kills over a training: each in its own equal part of it, at random within that.

    Frames are counted, not records: an undisturbed session and a disturbed one have the same
    frames, while the latter's log holds some records more.

    Args:
        parts: of all links of the undisturbed session; none may be empty.
        parties: who can be killed.
        kills: how many.
        seed: 0 to 2**64 - 1; the same arguments give the same plan.
        checkpoint_every: share of the training between two checkpoints.

    Raises:
        ValueError: no link, no party, or an empty part.
    """
    if not parts or not parties or any(part.end <= part.start for part in parts):
        raise ValueError(f"expected links with training steps, found {parts!r} of {parties!r}")
    plan = []
    for number in range(kills):
        place = LAST_PLACE * (number + _share(seed, number, "place")) / kills
        part = parts[derive_seed(seed, "kill", number, "link") % len(parts)]
        plan.append(
            Kill(
                sender=part.sender,
                receiver=part.receiver,
                frames=_frames(part, place),
                kind=_kind(_share(seed, number, "kind")),
                party=parties[derive_seed(seed, "kill", number, "party") % len(parties)],
                # Half an interval more than it takes to the next checkpoint at most.
                latest=_frames(part, min(LAST_PLACE, place + 1.5 * checkpoint_every)),
            )
        )
    return tuple(plan)


def _share(seed: int, number: int, what: str) -> float:
    """From 0 to below 1; 53 bits are what a float holds exactly."""
    return (derive_seed(seed, "kill", number, what) >> 11) / 2**53


def _frames(part: TrainingPart, place: float) -> int:
    """The first frame of the part stands at 0, nearly all do at 1."""
    return part.start + 1 + int(place * (part.end - part.start - 1))


def _kind(draw: float) -> KillKind:
    if draw < ALL_SHARE:
        return KillKind.ALL
    return KillKind.CHECKPOINT if draw < ALL_SHARE + CHECKPOINT_SHARE else KillKind.ONE
