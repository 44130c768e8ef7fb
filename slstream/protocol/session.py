"""What a session is made of, whatever its role: plan, outcome, and how results are typed."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, TypeVar

from slstream.errors import LocalProtocolError
from slstream.protocol.actions import Action
from slstream.protocol.early_stop import EarlyStop

T = TypeVar("T")

Session = Generator[Action, Any, "Outcome"]
"""Yields actions, is sent their results, returns an :class:`Outcome`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What the topology asks of a session."""

    epochs: int
    early_stop: EarlyStop | None = None


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
