"""What a session is made of, whatever its role: plan, outcome, and how results are typed."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from slstream.errors import LocalProtocolError
from slstream.protocol.actions import Action, Cursor, Rows
from slstream.protocol.early_stop import EarlyStop
from slstream.protocol.schedule import Schedule

T = TypeVar("T")

Session = Generator[Action, Any, "Outcome"]
"""Yields actions, is sent their results, returns an :class:`Outcome`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What the topology asks of a session."""

    epochs: int
    schedule: Schedule = field(default_factory=Schedule)
    early_stop: EarlyStop | None = None

    def end(self, history: Sequence[Mapping[str, float]]) -> str | None:
        """Why training ends after these epochs; ``None`` when it goes on."""
        if len(history) >= self.epochs:
            return "the last epoch is done"
        return None if self.early_stop is None else self.early_stop.reason(history)

    def outcome(
        self,
        cursor: Cursor,
        rows: Rows,
        *,
        weights: Mapping[str, str],
        party_rows: Mapping[str, int],
    ) -> Outcome:
        """What a session has come to when training is over."""
        epochs = len(cursor.history)
        return Outcome(
            epochs=epochs,
            steps=epochs * rows.steps,
            stopped_early=cursor.ended if epochs < self.epochs else None,
            history=tuple(dict(metrics) for metrics in cursor.history),
            weights=dict(weights),
            party_rows=dict(party_rows),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a session ended cleanly."""

    epochs: int
    """Epochs done."""
    steps: int
    """Training steps done, over all epochs."""
    stopped_early: str | None
    """Why training ended before the last planned epoch."""
    history: tuple[dict[str, float], ...]
    """Validation metrics per epoch."""
    weights: dict[str, str]
    """SHA-256 of each party's final weights."""
    party_rows: dict[str, int]
    """Rows in each party's own table."""


def expect(result: object, kind: type[T]) -> T:
    """Type a result that the party sent in.

    Raises:
        LocalProtocolError: the party performed an action and returned something else.
    """
    if not isinstance(result, kind):
        raise LocalProtocolError(
            f"an action returned {type(result).__name__}; expected {kind.__name__}"
        )
    return result
