"""A session whose codecs change by epoch."""

from __future__ import annotations

from pathlib import Path

from tests.party.small_session import run_all, summary_of, topology


def test_a_warm_up_epoch_has_a_codec_of_its_own(tmp_path: Path) -> None:
    chains = {
        "forward": "raw32",
        "backward": "raw32",
        "evaluation": "raw32",
        "rules": [{"last_epoch": 1, "forward": "fp16", "backward": ["bf16", "zstd"]}],
    }
    federation = topology(tmp_path, codec=chains)
    outcomes = {name: summary_of(o) for name, o in run_all(tmp_path / "run", federation).items()}
    frames = {
        (traffic.kind, traffic.codec): traffic.frames
        for summary in outcomes.values()
        for traffic in summary.traffic
        if traffic.kind != "control"
    }
    summary = outcomes["alice"]
    steps, epochs = summary.steps // summary.epochs, summary.epochs
    assert frames == {
        ("activation", "fp16"): steps,
        ("activation", "raw32"): steps * (epochs - 1),
        ("gradient", "bf16+zstd"): steps,
        ("gradient", "raw32"): steps * (epochs - 1),
        ("evaluation", "raw32"): frames["evaluation", "raw32"],
    }
