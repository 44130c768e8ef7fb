"""Progress events: what a party tells monitors while it works.

They are small JSON records on the topic ``<federation>.telemetry.<party>``, sent at most ten times
a second and never waited for. Nothing in a session depends on them.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from enum import StrEnum


class PartyState(StrEnum):
    """What a party is doing."""

    OPENING = "opening"
    CATCHING_UP = "catching up"
    """Computing again what an earlier process of this party had done."""
    TRAINING = "training"
    EVALUATING = "evaluating"
    FINISHED = "finished"
    FAILED = "failed"
    INTERRUPTED = "interrupted"


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """One progress event of one party."""

    party: str
    session: str
    state: PartyState
    epoch: int = 0
    """Epochs begun, from 1; 0 before the first."""
    epochs: int = 0
    """Epochs planned."""
    step: int = 0
    """Steps done in this epoch."""
    steps: int = 0
    """Steps of an epoch."""
    loss: float | None = None
    """Training loss of the last step; only the label party knows it."""
    metrics: dict[str, float] = field(default_factory=dict)
    """Of the last evaluation, for instance ``{"auc": 0.99, "accuracy": 0.97}``."""
    raw_bytes: int = 0
    """Bytes this party would have sent so far with uncompressed float32 in the same framing."""
    wire_bytes: int = 0
    """Bytes this party has sent so far, with all headers."""
    waiting_for: str | None = None
    """What the party waits for, when it has waited for a second or more."""
    waiting_s: float = 0.0
    """Since how long."""
    message: str | None = None
    """A line for the user: how many rows matched, why it stopped."""

    def to_json(self) -> bytes:
        """UTF-8 JSON object of all fields."""
        return json.dumps(asdict(self), separators=(",", ":")).encode()

    @classmethod
    def from_json(cls, data: bytes) -> Progress:
        """Parse :meth:`to_json`'s output; unknown keys are ignored, so that old monitors read on.

        Raises:
            ValueError: not such an object.
        """
        try:
            document = json.loads(data)
        except RecursionError as error:
            raise ValueError("not a progress event: nested too deeply") from error
        if not isinstance(document, dict):
            raise ValueError(f"expected a JSON object, found {type(document).__name__}")  # noqa: TRY004 - one error type for bad bytes
        known = {k: v for k, v in document.items() if k in cls.__slots__}
        for key, value in known.items():
            if not _fits(key, value):
                raise ValueError(f"not a progress event: {key} is a {type(value).__name__}")
        try:
            return cls(**{**known, "state": PartyState(known["state"])})
        except (KeyError, TypeError) as error:
            raise ValueError(f"not a progress event: {error}") from error


_TEXT = ("party", "session", "state")
_COUNTS = ("epoch", "epochs", "step", "steps", "raw_bytes", "wire_bytes")


def _fits(key: str, value: object) -> bool:
    """Whether a foreign value has the type of a field, so that displays need not doubt it."""
    if key in _TEXT:
        return isinstance(value, str)
    if key in _COUNTS:
        return type(value) is int and 0 <= value < 2**63
    if key == "metrics":
        return isinstance(value, dict) and all(map(_is_number, value.values()))
    if key in ("waiting_for", "message"):
        return value is None or isinstance(value, str)
    return _is_number(value) or (key == "loss" and value is None)


def _is_number(value: object) -> bool:
    return isinstance(value, float) or (type(value) is int and abs(value) < 2**63)
