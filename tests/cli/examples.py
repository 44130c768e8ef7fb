"""A session as the displays see it, with names and numbers of everyday size."""

from __future__ import annotations

import io

from rich.console import Console, RenderableType

from slstream.cli.progress import Focus
from slstream.party.summary import Baseline, Summary, TimeSpent, Traffic
from slstream.party.telemetry import PartyState, Progress


def event(party: str = "alice", **changes: object) -> Progress:
    """A progress event in the third of twenty epochs, changed as asked."""
    fields: dict[str, object] = {
        "session": "20260131-7f3a",
        "state": PartyState.TRAINING,
        "epoch": 3,
        "epochs": 20,
        "step": 7,
        "steps": 14,
        "raw_bytes": 18_400_000,
        "wire_bytes": 700_300,
    }
    return Progress(party=party, **{**fields, **changes})  # type: ignore[arg-type]


def traffic(sender: str, receiver: str, kind: str, codec: str, raw: int, wire: int) -> Traffic:
    return Traffic(
        sender=sender,
        receiver=receiver,
        kind=kind,
        codec=codec,
        frames=280,
        raw_bytes=raw,
        wire_bytes=wire,
    )


def spent(compute_s: float) -> TimeSpent:
    return TimeSpent(
        opening_s=4.5,
        compute_s=compute_s,
        codec_s=0.31,
        transport_s=0.2,
        waiting_s=2.2,
        total_s=134.1,
    )


FOCUS = Focus(party="alice", metric="auc")

SUMMARY = Summary(
    federation="breast-cancer",
    session="20260131-7f3a",
    outcome="finished",
    epochs=20,
    steps=1280,
    metrics={"auc": 0.99421, "accuracy": 0.9649, "loss": 0.08213},
    baseline=Baseline(metrics={"auc": 0.9951, "accuracy": 0.9649, "loss": 0.0791}, total_s=0.84),
    rows={"matched": 1512, "train": 1210, "validation": 302},
    party_rows={"alice": 1540, "bob": 1541},
    traffic=[
        traffic("alice", "bob", "control", "bitmap", 1_000, 1_000),
        traffic("alice", "bob", "control", "json", 8_000, 8_000),
        traffic("alice", "bob", "gradient", "ecsq(step=2,bits=4)", 18_400_000, 820_100),
        traffic("bob", "alice", "activation", "ecsq", 18_400_000, 700_300),
    ],
    time={"alice": spent(1.2), "bob": spent(0.2)},
    weights={"alice": "ab" * 32, "bob": "cd" * 32},
)


def rendered(renderable: RenderableType, width: int = 80) -> str:
    """What a user without colours reads."""
    console = Console(file=io.StringIO(), width=width, color_system=None, record=True)
    console.print(renderable)
    return console.export_text()


def words(text: str) -> list[str]:
    """Lines with runs of spaces made one, so that a test is about content."""
    return [" ".join(line.split()) for line in text.splitlines()]


def assert_fits(text: str, width: int) -> None:
    too_long = [line for line in text.splitlines() if len(line.rstrip()) > width]
    assert not too_long
    assert "…" not in text, "a cell was cut"
