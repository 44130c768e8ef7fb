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
        document = json.loads(data)
        if not isinstance(document, dict):
            raise ValueError(f"expected a JSON object, found {type(document).__name__}")  # noqa: TRY004 - one error type for bad bytes
        known = {k: v for k, v in document.items() if k in cls.__slots__}
        try:
            return cls(**{**known, "state": PartyState(known["state"])})
        except (KeyError, TypeError) as error:
            raise ValueError(f"not a progress event: {error}") from error
