"""Early stopping depends on the history alone."""

from __future__ import annotations

import pytest

from slstream.protocol.early_stop import EarlyStop


def history(metric: str, *values: float) -> list[dict[str, float]]:
    return [{metric: value} for value in values]


@pytest.mark.parametrize(
    ("metric", "values", "stops"),
    [
        ("auc", (0.5, 0.6, 0.7), False),
        ("auc", (0.5, 0.6, 0.6), False),
        ("auc", (0.5, 0.6, 0.6, 0.6), True),
        ("auc", (0.9, 0.5, 0.95), False),
        ("loss", (0.9, 0.5, 0.4), False),
        ("loss", (0.4, 0.5, 0.6), True),
        ("auc", (), False),
    ],
)
def test_patience_of_two(metric: str, values: tuple[float, ...], stops: bool) -> None:
    rule = EarlyStop(metric=metric, patience=2)
    assert (rule.reason(history(metric, *values)) is not None) is stops


def test_small_gains_do_not_count() -> None:
    rule = EarlyStop(metric="auc", patience=2, min_delta=0.01)
    assert rule.reason(history("auc", 0.7, 0.705, 0.709)) == (
        "auc has not improved on 0.7000 of epoch 1 for 2 epochs"
    )


def test_a_metric_that_is_never_there_stops_with_that_reason() -> None:
    rule = EarlyStop(metric="auc", patience=2)
    assert rule.reason([{"loss": 1.0}, {"loss": 0.9}]) == "auc could not be computed in 2 epochs"
