"""The training bench compares runs through a link, and reports what did not come as not there."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean, stdev

import pytest

from slstream.bench import plots, shaped_run, train
from slstream.bench.report import Report, Result
from slstream.bench.shaped_link import Link
from slstream.bench.shaped_run import Evaluation, ShapedRun
from slstream.errors import ConfigError, ModelError
from slstream.party.summary import Summary, TimeSpent, Traffic
from slstream.topology import Topology
from tests.party.federation import write_federation

QUICK = Link(rate_bps=1e9, rtt_s=0.02)
SLOW = Link(rate_bps=100e6, rtt_s=0.05)


def spent(compute_s: float, codec_s: float) -> TimeSpent:
    """Of one second, after an opening of nine."""
    return TimeSpent(
        opening_s=9,
        compute_s=compute_s,
        codec_s=codec_s,
        transport_s=0,
        waiting_s=0,
        total_s=10,
    )


def shaped(aucs: Sequence[float], *, epoch_s: float, wire_bytes: int, steps: int = 10) -> ShapedRun:
    """A run with these metrics, one epoch after another."""
    traffic = [
        Traffic(
            sender="bob",
            receiver="alice",
            kind=kind,
            codec="any",
            frames=1,
            raw_bytes=wire_bytes,
            wire_bytes=wire_bytes // 2,
        )
        for kind in ("activation", "gradient")
    ]
    return ShapedRun(
        summary=Summary(
            federation="tiny",
            session="s",
            outcome="finished",
            epochs=len(aucs),
            steps=steps,
            metrics={"auc": aucs[-1]},
            traffic=traffic,
            time={"alice": spent(0.7, 0.2), "bob": spent(0.4, 0.1)},
        ),
        evaluations=tuple(
            Evaluation(at_s=epoch_s * epoch, metrics={"auc": auc})
            for epoch, auc in enumerate(aucs, start=1)
        ),
    )


class Trainings:
    """Stands for the training: gives out what it was given, uncompressed first for each seed."""

    def __init__(self, *runs: ShapedRun) -> None:
        self._left = list(runs)
        self.seen: list[Topology] = []

    def __call__(self, topology: Topology, link: Link, *, directory: Path) -> ShapedRun:
        del link, directory
        self.seen.append(topology)
        return self._left.pop(0)


def use(monkeypatch: pytest.MonkeyPatch, *runs: ShapedRun) -> Trainings:
    trainings = Trainings(*runs)
    monkeypatch.setattr(train, "train", trainings)
    return trainings


def by_name(report: Report) -> dict[str, Result]:
    return {result.name: result for result in report.results}


@pytest.mark.timeout(180)  # starts processes that import torch, on machines that are busy
def test_a_real_session_passes_the_link(tmp_path: Path) -> None:
    """Each training step takes the way up and down at least."""
    link = Link(rate_bps=20e6, rtt_s=0.1)
    topology = write_federation(tmp_path).load("training.epochs=1", "training.validation=0.25")
    found = shaped_run.train(topology, link, directory=tmp_path / "run")
    assert found.summary.outcome == "finished"
    assert len(found.evaluations) == 1
    assert found.evaluations[0].metrics["auc"] == found.summary.metrics["auc"]
    steps = found.summary.steps
    assert steps * 0.1 < found.training_s < steps * 0.1 + 20
    spent = found.summary.time["bob"]
    assert spent.waiting_s >= steps * 0.1, "a gradient comes a round trip after its activation"
    assert spent.transport_s < steps * 0.1, "no step waits for an acknowledgement"


def test_a_run_without_validation_rows_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As is one with rows of one class only: there is no metric, so no target."""
    topology = write_federation(tmp_path).load()
    run = shaped([0.5], epoch_s=1, wire_bytes=100)

    async def nothing(*_: object) -> ShapedRun:
        return replace(run, evaluations=(Evaluation(at_s=1, metrics={"loss": 0.1}),))

    monkeypatch.setattr(shaped_run, "run_session", lambda *_, **__: run.summary)
    monkeypatch.setattr(shaped_run, "_read_run", nothing)
    with pytest.raises(ModelError, match="seed 11: expected the metric auc after every epoch"):
        shaped_run.train(topology, QUICK, directory=tmp_path)


def test_time_to_target_is_that_of_the_first_epoch_that_reaches_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainings = use(
        monkeypatch,
        # The best is 0.9, so the target is 0.897.
        shaped([0.7, 0.9, 0.8], epoch_s=10, wire_bytes=3000),
        shaped([0.6, 0.8, 0.8971], epoch_s=1, wire_bytes=100),
    )
    report = train.run(write_federation(tmp_path).load(), link=SLOW, seeds=1)
    found = by_name(report)
    assert found["time_to_target_s"].value == pytest.approx(3)
    assert found["uncompressed_time_to_target_s"].value == pytest.approx(20)
    assert found["time_to_target_speedup"].value == pytest.approx(20 / 3)
    assert found["time_to_target_speedup"].target == ">= 3"
    assert found["time_to_target_speedup"].holds is True
    assert found["wire_ratio"].value == pytest.approx(30)
    assert found["metric_delta_points"].value == pytest.approx(9.71)
    assert found["metric_delta_points"].holds is None
    assert "metric_delta_standard_error" not in found, "one pair has none"
    assert found["training_s"].value == pytest.approx(3)
    assert found["steps_per_s"].value == pytest.approx(10 / 3)
    assert found["least_busy"].value == pytest.approx(0.5)
    assert any("needs at least 5 seeds" in note for note in report.notes)
    raw, compressed = trainings.seen
    assert raw.schedule.name == "sync"
    assert [raw.codec.forward, raw.codec.backward] == [({"id": "raw32"},)] * 2
    assert compressed.codec.forward is None
    assert raw.federation != compressed.federation, "a log that both use keeps them apart"


def test_a_target_that_is_not_reached_gives_no_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(
        monkeypatch,
        *(
            shaped([0.7, 0.9], epoch_s=10, wire_bytes=3000),
            shaped([0.7, 0.9], epoch_s=1, wire_bytes=100),
        ),
        *(
            shaped([0.7, 0.9], epoch_s=10, wire_bytes=3000),
            shaped([0.7, 0.8], epoch_s=1, wire_bytes=100),
        ),
    )
    report = train.run(write_federation(tmp_path).load(), link=SLOW, seeds=2)
    found = by_name(report)
    assert "time_to_target_speedup" not in found
    assert "time_to_target_s" not in found
    assert found["uncompressed_time_to_target_s"].value == pytest.approx(20)
    assert any("target after epoch 2, not reached" in note for note in report.notes)


def test_the_statistics_are_those_of_the_pairs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deltas = [0.0, 0.2, -0.1, 0.3, 0.2]
    runs = [
        run
        for delta in deltas
        for run in (
            shaped([0.9], epoch_s=10, wire_bytes=3000),
            shaped([0.9 + delta / 100], epoch_s=1, wire_bytes=100),
        )
    ]
    trainings = use(monkeypatch, *runs)
    report = train.run(write_federation(tmp_path).load(), link=SLOW, seeds=5)
    found = by_name(report)
    assert [each.seed for each in trainings.seen] == [11, 11, 12, 12, 13, 13, 14, 14, 15, 15]
    error = stdev(deltas) / math.sqrt(5)
    assert found["metric_delta_points"].value == pytest.approx(fmean(deltas))
    assert found["metric_delta_standard_error"].value == pytest.approx(error)
    assert fmean(deltas) > train.DELTA_POINTS
    assert found["metric_delta_points"].holds is True, "within 0.1 beyond the standard error"


def test_several_codecs_are_compared_with_one_uncompressed_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainings = use(
        monkeypatch,
        shaped([0.9], epoch_s=10, wire_bytes=3000),
        shaped([0.9], epoch_s=5, wire_bytes=750),
        shaped([0.9], epoch_s=2, wire_bytes=300),
        shaped([0.9], epoch_s=1, wire_bytes=100),
    )
    codecs = ("[q8row, zstd]", "{forward: q4row, backward: fp16}", "adaptive")
    report = train.run(
        write_federation(tmp_path).load(),
        link=SLOW,
        codecs=codecs,
        schedule="{name: pipeline, pipeline_size: 4}",
        target=0.85,
        seeds=1,
        plot=tmp_path / "pictures",
    )
    found = by_name(report)
    assert [found[f"{codec}/wire_ratio"].value for codec in codecs] == pytest.approx([4, 10, 30])
    speedups = [found[f"{codec}/time_to_target_speedup"].value for codec in codecs]
    assert speedups == pytest.approx([2, 5, 10])
    raw, first, second, third = trainings.seen
    assert third.codec.choice == "adaptive"
    assert raw.schedule.name == "sync"
    assert (first.schedule.name, first.schedule.pipeline_size) == ("pipeline", 4)
    both = ({"id": "q8row"}, {"id": "zstd"})
    assert (first.codec.forward, first.codec.backward) == (both, both)
    assert (second.codec.forward, second.codec.backward) == (
        ({"id": "q4row"},),
        ({"id": "fp16"},),
    )
    for name in (plots.METRIC_OVER_TIME, plots.RATIO_AGAINST_METRIC, plots.BYTES_PER_STEP):
        assert (tmp_path / "pictures" / name).read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("choice", "said"),
    [
        ({"codecs": ["nonesuch"]}, "with --codec nonesuch: .*no codec"),
        ({"codecs": ["[unclosed"]}, "--codec .*not valid YAML"),
        ({"schedule": "{name: sinc}"}, "with --schedule {name: sinc}: .*schedule.name: expected"),
        (
            {"codecs": ["q8row"], "schedule": "sinc"},
            "with --codec q8row and --schedule sinc: .*schedule",
        ),
    ],
)
def test_a_choice_that_does_not_fit_is_told_before_anything_runs(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    choice: dict[str, object],
    said: str,
) -> None:
    trainings = use(monkeypatch)
    with pytest.raises(ConfigError, match=said):
        train.run(write_federation(tmp_path).load(), link=SLOW, **choice)  # type: ignore[arg-type]
    assert not trainings.seen


def test_pictures_without_matplotlib_are_refused_before_anything_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainings = use(monkeypatch)
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    with pytest.raises(ConfigError, match=r"slstream\[plot\]"):
        train.run(write_federation(tmp_path).load(), link=SLOW, plot=tmp_path / "pictures")
    assert not trainings.seen


@pytest.mark.parametrize(
    ("rate_bps", "rtt_s", "speedup"),
    [(10e6, 0.05, 10), (100e6, 0.05, 3), (1e9, 0.05, 1), (10e6, 0, 1), (1e10, 0, 1)],
)
def test_what_is_wanted_depends_on_the_link(rate_bps: float, rtt_s: float, speedup: float) -> None:
    assert train.wanted_speedup(Link(rate_bps=rate_bps, rtt_s=rtt_s)) == speedup


def test_lower_metrics_have_targets_above_the_best() -> None:
    run = ShapedRun(
        summary=shaped([0.5], epoch_s=1, wire_bytes=10).summary,
        evaluations=tuple(Evaluation(at_s=t, metrics={"mae": m}) for t, m in ((1, 4.0), (2, 2.0))),
    )
    assert train._default_target(run, "mae") == pytest.approx(2.006)
    assert run.time_to("mae", 2.006) == 2
    assert run.time_to("mae", 1.9) is None
