"""Results of soak tests that never ran."""

from __future__ import annotations

from slstream.frames.header import FrameKind
from slstream.soak.kill_plan import Kill, KillKind
from slstream.soak.killer import DoneKill
from slstream.soak.training_frames import TrainingFrames, differences
from slstream.soak.trial import SessionTrace, Trial
from tests.audit.small_log import frames
from tests.soak.small_links import fold

STEPS = [(1, 1), (1, 2), (2, 1)]


def links(steps: list[tuple[int, int]] = STEPS) -> tuple[TrainingFrames, ...]:
    return (
        fold(frames(FrameKind.ACTIVATION, steps)),
        fold(frames(FrameKind.GRADIENT, steps), "alice", "bob"),
    )


def trace(**changes: object) -> SessionTrace:
    fields: dict[str, object] = {
        "session": "20260131-120000-7f3a00",
        "seconds": 12.5,
        "steps": 3,
        "weights": {"alice": "a" * 64, "bob": "b" * 64},
        "history": ({"auc": 0.9},),
        "links": links(),
        "starts": 7,
        "divergences": 0,
    }
    return SessionTrace(**{**fields, **changes})  # type: ignore[arg-type]


def done(kind: KillKind) -> DoneKill:
    planned = Kill(sender="bob", receiver="alice", frames=3, kind=kind, party="bob", latest=9)
    return DoneKill(planned=planned, kind=kind, at_ms=0)


KINDS = (KillKind.ONE, KillKind.CHECKPOINT, KillKind.ONE, KillKind.ALL)


def trial_of(
    *, disturbed: SessionTrace | None = None, kinds: tuple[KillKind, ...] = KINDS
) -> Trial:
    """Four kills that changed nothing, unless ``disturbed`` says otherwise."""
    before, after = trace(), disturbed or trace(seconds=50.0)
    return Trial(
        planned=4,
        done=tuple(map(done, kinds)),
        undisturbed=before,
        disturbed=after,
        frames=differences(before.links, after.links),
    )
