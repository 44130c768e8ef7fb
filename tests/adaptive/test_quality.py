"""How much noise a codec may add, and what the guard makes of validation."""

from __future__ import annotations

import math

import pytest

from slstream.adaptive.quality import FLOORS_DB, LIFT_DB, MOST_LIFTS, PATIENCE, QualityFloor


def floors(quality: QualityFloor) -> tuple[float, float]:
    return quality.floor_db("forward"), quality.floor_db("backward")


def test_the_floors_are_those_that_were_measured_unless_another_budget_is_given() -> None:
    measured = FLOORS_DB["forward"], FLOORS_DB["backward"]
    assert floors(QualityFloor()) == measured
    assert floors(QualityFloor(max_metric_loss=0.1)) == measured
    assert floors(QualityFloor(floor_db=12.0)) == measured


def test_half_the_loss_is_half_the_noise() -> None:
    quality = QualityFloor(max_metric_loss=0.05)
    assert quality.floor_db("forward") == pytest.approx(12 + 10 * math.log10(2))
    assert QualityFloor(max_metric_loss=1.0).floor_db("backward") == pytest.approx(-10)


def test_a_floor_is_that_of_activations_and_gradients_are_below_it() -> None:
    assert floors(QualityFloor(floor_db=20.0)) == (20.0, 8.0)


def test_the_guard_lifts_the_floors_when_validation_stays_worse() -> None:
    quality = QualityFloor()
    assert not any(quality.evaluated(loss) for loss in (0.9, 0.8, 0.85, 0.85, 0.8, 0.85, 0.85))
    assert quality.evaluated(0.85), "the third in a row"
    assert floors(quality) == (12 + LIFT_DB, LIFT_DB)
    for _ in range(PATIENCE - 1):
        assert not quality.evaluated(0.85)
    assert quality.evaluated(0.85)


def test_the_guard_tolerates_what_the_budget_allows() -> None:
    def lifts(budget: float, loss: float) -> int:
        quality = QualityFloor(max_metric_loss=budget)
        for each in (1.0, *[loss] * 50):
            quality.evaluated(each)
        return quality.lifts

    assert [lifts(0.1, 1.0099), lifts(0.1, 1.0101), lifts(1.0, 1.099), lifts(1.0, 1.101)] == [
        0,
        MOST_LIFTS,
        0,
        MOST_LIFTS,
    ]


def test_a_loss_below_zero_that_shrinks_lifts_nothing() -> None:
    quality = QualityFloor()
    assert not any(quality.evaluated(-10 - 0.1 * epoch) for epoch in range(50))
    assert [quality.evaluated(-14.0) for _ in range(PATIENCE)][-1]
