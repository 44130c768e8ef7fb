"""The bench of the adaptive choice: what is compared with what, and when a change has settled."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from slstream.bench import adaptive
from slstream.bench.report import Result
from slstream.bench.shaped_link import Link
from slstream.bench.shaped_run import Chosen, Evaluation, ShapedRun
from slstream.party.summary import Summary, Traffic
from slstream.topology import Topology

AUCS = (0.7, 0.8, 0.82)


def run_of(epoch_s: float, *, choices: tuple[Chosen, ...] = (), ended_at: float = 0.0) -> ShapedRun:
    traffic = [
        Traffic(
            sender="bob",
            receiver="alice",
            kind=kind,
            codec=codec,
            frames=frames,
            raw_bytes=1,
            wire_bytes=1,
        )
        for kind in ("activation", "gradient")
        for codec, frames in (("q8row", 2), ("ecsq", 9))
    ]
    summary = Summary(
        federation="f",
        session="s",
        outcome="finished",
        epochs=len(AUCS),
        steps=30,
        metrics={"auc": AUCS[-1]},
        traffic=traffic,
    )
    return ShapedRun(
        summary=summary,
        evaluations=tuple(
            Evaluation(at_s=epoch_s * epoch, metrics={"auc": auc})
            for epoch, auc in enumerate(AUCS, start=1)
        ),
        choices=choices,
        ended_at=ended_at,
    )


def codec_of(topology: Topology) -> str:
    if topology.codec.choice == "adaptive":
        return "adaptive"
    assert topology.codec.forward is not None
    return str(topology.codec.forward[0]["id"])


def use(monkeypatch: pytest.MonkeyPatch, train: Callable[[Topology, Link], ShapedRun]) -> list[str]:
    seen: list[str] = []

    def stand_in(topology: Topology, link: Link, *, directory: Path) -> ShapedRun:
        del directory
        seen.append(codec_of(topology))
        return train(topology, link)

    monkeypatch.setattr(adaptive, "train", stand_in)
    return seen


def by_name(results: tuple[Result, ...]) -> dict[str, Result]:
    return {result.name: result for result in results}


def test_the_adaptive_choice_is_compared_with_the_best_rung(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seconds = {"adaptive": 2.0, "ecsq": 4.0, "q4row": 1.9, "q8row": 2.4, "fp16": 9.0}
    seen = use(monkeypatch, lambda topology, _: run_of(seconds[codec_of(topology)]))
    report = adaptive.run(rates={"1gbit": 1e9}, steps=False)
    assert seen == ["adaptive", "ecsq", "ecsq", "ecsq", "q4row", "q8row"], "then it becomes worse"
    found = by_name(report.results)
    share = found["1gbit/share_of_the_best"]
    assert share.value == pytest.approx(0.95)
    assert share.holds
    assert "1gbit/best_s (q4row)" in found
    # AUC 0.815 lies three quarters into the third epoch.
    assert found["1gbit/adaptive_s"].value == pytest.approx(2.75 * 2.0)
    assert "activation ecsq, gradient ecsq" in report.notes[0]


def test_a_worse_choice_misses_the_target(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = {"adaptive": 2.3, "ecsq": 2.0}
    use(monkeypatch, lambda topology, _: run_of(seconds.get(codec_of(topology), 9.0)))
    (share, *_) = adaptive.run(rates={"1gbit": 1e9}, steps=False).results
    assert share.value == pytest.approx(2.0 / 2.3)
    assert share.holds is False


@pytest.mark.parametrize(
    ("after", "settled", "most", "holds"),
    [
        ((), 0.0, 0, [True, True]),
        ((("bob", 1.0), ("alice", 2.5)), 2.5, 1, [True, True]),
        ((("bob", 1.0), ("bob", 2.0), ("bob", 4.0)), 4.0, 3, [True, False]),
        ((("bob", 7.0),), 7.0, 1, [False, True]),
    ],
)
def test_changes_are_counted_from_that_of_the_link_on(
    monkeypatch: pytest.MonkeyPatch,
    after: tuple[tuple[str, float], ...],
    settled: float,
    most: int,
    holds: list[bool],
) -> None:
    def train(_: Topology, link: Link) -> ShapedRun:
        if link.later_rate_bps is None:
            return run_of(0.9)
        at = link.later_at
        before = (Chosen(at=at - 6, sender="bob", reason="to begin with"),)
        later = tuple(Chosen(at=at + late_s, sender=who, reason="w") for who, late_s in after)
        return run_of(1.0, choices=before + later, ended_at=at + 20)

    use(monkeypatch, train)
    found = by_name(adaptive.run(rates={}).results)
    for change in ("1000-to-100mbit", "100-to-1000mbit"):
        results = [found[f"{change}/{n}"] for n in ("settled_s", "most_changes_of_a_sender")]
        assert [r.value for r in results] == [pytest.approx(settled), most]
        assert [r.holds for r in results] == holds
        assert found[f"{change}/share_of_one_that_began_so"].value == pytest.approx(0.9)
        assert found[f"{change}/observed_s"].value == pytest.approx(6)


def test_a_change_during_which_nobody_looked_is_not_passed(monkeypatch: pytest.MonkeyPatch) -> None:
    def train(_: Topology, link: Link) -> ShapedRun:
        choices = (Chosen(at=link.later_at + 1, sender="bob", reason="to begin with"),)
        return run_of(1.0, choices=choices, ended_at=link.later_at + 4)

    use(monkeypatch, train)
    found = by_name(adaptive.run(rates={}).results)
    assert found["100-to-1000mbit/observed_s"].holds is False
    assert found["100-to-1000mbit/share_of_one_that_began_so"].holds is False
