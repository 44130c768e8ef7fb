"""The accuracy bench compares pairs that differ in compression alone."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from statistics import fmean, stdev

import pytest

from slstream.bench import accuracy
from slstream.errors import DataError
from slstream.topology import Topology
from tests.party.federation import write_federation

RAW = [f"codec.{direction}=raw32" for direction in ("forward", "backward", "evaluation")]


@pytest.mark.long
def test_without_compression_the_difference_is_zero(tmp_path: Path) -> None:
    report = accuracy.run(write_federation(tmp_path).load(*RAW), seeds=2)
    values = {result.name: result.value for result in report.results}
    assert values["wire_ratio"] == pytest.approx(1, abs=0.01)
    assert values["metric_delta_points"] == 0
    assert values["metric_delta_standard_error"] == 0
    assert values["accuracy_delta_points"] == 0
    assert values["metric"] == values["uncompressed_metric"]
    by_name = {result.name: result for result in report.results}
    assert by_name["wire_ratio"].holds is False
    assert by_name["metric_delta_points"].holds is None, "two seeds are too few for a claim"


def test_the_statistics_are_those_of_the_pairs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sign, the unit and the standard error, on pairs that are given."""
    topology = write_federation(tmp_path).load()
    pairs = iter([(0.90, 0.91), (0.93, 0.91), (0.92, 0.91), (0.90, 0.90), (0.94, 0.95)])
    deltas = [-1.0, 2.0, 1.0, 0.0, -1.0]
    seeds = []

    def pair(one: Topology) -> object:
        from slstream.party.summary import Baseline, Summary, Traffic

        seeds.append(one.seed)
        with_codecs, without = next(pairs)
        traffic = Traffic(
            sender="bob",
            receiver="alice",
            kind="activation",
            codec="ecsq",
            frames=1,
            raw_bytes=3000,
            wire_bytes=100,
        )
        summary = Summary(
            federation="tiny",
            session="s",
            outcome="finished",
            epochs=1,
            steps=1,
            metrics={"auc": with_codecs},
            traffic=[traffic, replace(traffic, kind="control", raw_bytes=50, wire_bytes=50)],
        )
        return summary, Baseline(metrics={"auc": without}, total_s=1.0)

    monkeypatch.setattr(accuracy, "_pair", pair)
    report = accuracy.run(topology, seeds=5)
    by_name = {result.name: result for result in report.results}
    assert seeds == [topology.seed + index for index in range(5)]
    assert by_name["metric_delta_points"].value == pytest.approx(fmean(deltas))
    error = by_name["metric_delta_standard_error"].value
    assert error == pytest.approx(stdev(deltas) / math.sqrt(5))
    assert by_name["metric_delta_points"].holds is True
    assert by_name["wire_ratio"].value == pytest.approx(3050 / 150)
    assert by_name["training_wire_ratio"].value == pytest.approx(30)
    assert by_name["wire_ratio"].holds is True


def test_a_table_that_is_not_at_hand_is_said(tmp_path: Path) -> None:
    federation = write_federation(tmp_path)
    (tmp_path / "bob.csv").unlink()
    with pytest.raises(DataError, match=r"bob\.csv"):
        accuracy.run(federation.load(), seeds=2)
