from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from slstream.party.summary import Baseline, Summary, TimeSpent, Traffic

SUMMARY = Summary(
    federation="small",
    session="s1",
    outcome="finished",
    epochs=2,
    steps=6,
    metrics={"loss": 0.5, "auc": 0.9},
    history=[{"loss": 0.6}, {"loss": 0.5, "auc": 0.9}],
    baseline=Baseline(metrics={"loss": 0.4}, total_s=1.5),
    rows={"matched": 4},
    party_rows={"alice": 5},
    traffic=[
        Traffic(
            sender="a",
            receiver="b",
            kind="activation",
            codec="fp16",
            frames=2,
            raw_bytes=300,
            wire_bytes=100,
        )
    ],
    time={
        "a": TimeSpent(opening_s=1, compute_s=1, codec_s=2, transport_s=3, waiting_s=4, total_s=11)
    },
    weights={"a": "0" * 64},
    environment={"python": "3"},
)


def test_summaries_round_trip_with_their_totals(tmp_path: Path) -> None:
    SUMMARY.write(tmp_path / "summary.json")
    text = (tmp_path / "summary.json").read_text()
    assert Summary.from_json(text) == SUMMARY
    document = json.loads(text)
    assert (document["raw_bytes"], document["wire_bytes"], document["ratio"]) == (300, 100, 3.0)
    assert document["format"] == 1


def test_without_a_baseline_or_traffic() -> None:
    least = replace(SUMMARY, baseline=None, traffic=[])
    assert Summary.from_json(least.to_json()) == least
    assert least.ratio == 1.0


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"format": 2}', '{"format": 1}', '{"format": 1, "traffic": [{}]}']
)
def test_anything_else_is_no_summary(text: str) -> None:
    with pytest.raises(ValueError, match=r"summary|Expecting"):
        Summary.from_json(text)
