"""Remembered rows: units change without drift, and what does not fit is cut alike everywhere."""

from __future__ import annotations

import numpy as np
import pytest

from slstream.codecs.contract import StateSpec
from slstream.codecs.remembered_rows import RememberedRows


def remembered() -> RememberedRows:
    return RememberedRows(StateSpec(rows=9, row_shape=(3,)), 3)


def test_rows_come_back_in_any_unit_rounded_to_even() -> None:
    kept, rows = remembered(), np.array([4, 0])
    values = np.array([[5, -6, 7], [1, 2, 3]], np.int32)
    kept.remember(rows, values, -10)
    assert np.array_equal(kept.predict(rows, -10), values)
    assert np.array_equal(kept.predict(rows, -12), 4 * values)
    assert np.array_equal(kept.predict(rows[:1], -9), [[2, -3, 4]])
    assert np.array_equal(kept.predict(rows, 90), np.zeros((2, 3)))
    assert np.array_equal(kept.predict(np.array([1]), -10), [[0, 0, 0]])


def test_values_are_cut_at_int16_and_predictions_at_24_bits() -> None:
    kept, rows = remembered(), np.array([2])
    kept.remember(rows, np.array([[40_000, -40_000, 32_767]], np.int32), 0)
    assert np.array_equal(kept.predict(rows, 0), [[32_767, -32_767, 32_767]])
    assert np.array_equal(kept.predict(rows, -100), [[1 << 24, -(1 << 24), 1 << 24]])


@pytest.mark.parametrize("exponent", [-127, 96])
def test_the_extreme_units_are_told_from_rows_that_are_not_remembered(exponent: int) -> None:
    kept, rows = remembered(), np.array([8])
    kept.remember(rows, np.array([[1, 2, 3]], np.int32), exponent)
    assert np.array_equal(kept.predict(rows, exponent), [[1, 2, 3]])
    kept.forget(rows)
    assert np.array_equal(kept.predict(rows, exponent), [[0, 0, 0]])


def test_the_checksum_covers_rows_values_and_units() -> None:
    kept, rows = remembered(), np.array([3, 5])
    kept.remember(rows, np.array([[1, 2, 3], [4, 5, 6]], np.int32), -4)
    sums = {kept.checksum(rows, 0), kept.checksum(rows[::-1], 0), kept.checksum(rows, 1)}
    kept.values[5, 2] += 1
    sums.add(kept.checksum(rows, 0))
    kept.exponents[3] += 1
    sums.add(kept.checksum(rows, 0))
    assert len(sums) == 5
    before = kept.checksum(rows, 0)
    kept.remember(np.array([4]), np.array([[9, 9, 9]], np.int32), 0)
    assert kept.checksum(rows, 0) == before
