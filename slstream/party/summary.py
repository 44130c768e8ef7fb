"""What a run came to: the content of ``summary.json`` and of the table at the end."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

FORMAT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """Frames of one kind, codec and direction."""

    sender: str
    receiver: str
    kind: str
    """``activation``, ``gradient``, ``evaluation`` or ``control``."""
    codec: str
    """Short text of the codec chain; ``json`` for control frames."""
    frames: int
    raw_bytes: int
    """The same frames with uncompressed float32 payloads, in the same framing."""
    wire_bytes: int
    """What was appended: key, headers, value and the record's own framing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CodecChosen:
    """A change of codec by the sender's own choice."""

    sender: str
    receiver: str
    kind: str
    """``activation`` or ``gradient``."""
    epoch: int
    step: int
    """With which it began."""
    codec: str
    """Short text of the chain."""
    reason: str

    def __str__(self) -> str:
        return (
            f"{self.kind} to {self.receiver} as {self.codec} from epoch {self.epoch}, step "
            f"{self.step}: {self.reason}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeSpent:
    """Where one party's seconds of wall time went."""

    opening_s: float
    """From the announcement to the first training step: loading, matching rows, waiting for all
    parties to join. The four parts below begin after it."""
    compute_s: float
    codec_s: float
    transport_s: float
    waiting_s: float
    """Waiting for peers (their compute included)."""
    total_s: float
    """From the session's opening to its end, over all processes of a party that was restarted,
    without what a killed one spent after its last checkpoint. Validation batches are computed while
    the party waits for the next ones, so the others may add up to a little more."""

    def __add__(self, other: TimeSpent) -> TimeSpent:
        """The sum, part by part."""
        return TimeSpent(
            **{f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(self)}
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """The same model trained in one process without compression."""

    metrics: dict[str, float]
    total_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """All that the summary table shows."""

    federation: str
    session: str
    outcome: str
    """``finished``, ``stopped early``, ``interrupted`` or ``failed``."""
    epochs: int
    """Epochs done."""
    steps: int
    """Training steps done, over all epochs."""
    metrics: dict[str, float]
    """Validation metrics after the last epoch, among them ``loss``."""
    history: list[dict[str, float]] = field(default_factory=list)
    """Validation metrics per epoch."""
    baseline: Baseline | None = None
    rows: dict[str, int] = field(default_factory=dict)
    """``matched``, ``train``, ``validation``."""
    party_rows: dict[str, int] = field(default_factory=dict)
    """Rows in each party's own table."""
    traffic: list[Traffic] = field(default_factory=list)
    choices: list[CodecChosen] = field(default_factory=list)
    """The latest codecs that parties chose by themselves; the log has all."""
    time: dict[str, TimeSpent] = field(default_factory=dict)
    weights: dict[str, str] = field(default_factory=dict)
    """SHA-256 of each party's ``model.safetensors``."""
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def raw_bytes(self) -> int:
        """Sum over all traffic."""
        return sum(t.raw_bytes for t in self.traffic)

    @property
    def wire_bytes(self) -> int:
        """Sum over all traffic."""
        return sum(t.wire_bytes for t in self.traffic)

    @property
    def ratio(self) -> float:
        """How many times fewer bytes than uncompressed; 1.0 when nothing was sent."""
        return self.raw_bytes / self.wire_bytes if self.wire_bytes else 1.0

    def to_json(self) -> str:
        """Indented JSON with the derived totals included."""
        document = {
            "format": FORMAT,
            **asdict(self),
            "raw_bytes": self.raw_bytes,
            "wire_bytes": self.wire_bytes,
            "ratio": self.ratio,
        }
        return json.dumps(document, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Summary:
        """Parse :meth:`to_json`'s output.

        Raises:
            ValueError: not a summary of this format.
        """
        document = json.loads(text)
        if not isinstance(document, dict) or document.get("format") != FORMAT:
            raise ValueError(f"expected a summary of format {FORMAT}")
        try:
            found = {k: v for k, v in document.items() if k in cls.__slots__}
            found["traffic"] = [Traffic(**entry) for entry in found["traffic"]]
            found["choices"] = [CodecChosen(**entry) for entry in found.get("choices", [])]
            found["time"] = {k: TimeSpent(**entry) for k, entry in found["time"].items()}
            if found["baseline"] is not None:
                found["baseline"] = Baseline(**found["baseline"])
            return cls(**found)
        except (KeyError, TypeError) as error:
            raise ValueError(f"not a summary: {error}") from error

    def write(self, path: Path) -> None:
        """Write :meth:`to_json` to ``path``."""
        path.write_text(self.to_json())


def read_summary(directory: Path) -> Summary | None:
    """A party's ``summary.json``; ``None`` without one."""
    try:
        return Summary.from_json((directory / "summary.json").read_text())
    except (OSError, ValueError):
        return None


def finished_session(directory: Path) -> str | None:
    """The session that a party's ``summary.json`` is about; ``None`` without one."""
    summary = read_summary(directory)
    return None if summary is None else summary.session
