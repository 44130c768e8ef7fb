from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from slstream.codecs.contract import CodecContext, FloatArray
from slstream.codecs.levels import SAMPLE, choose, fit, move_levels, spread_levels
from slstream.testing.codecs import activation, gradient

Doubles = npt.NDArray[np.float64]

FINITE = npst.arrays(
    np.float32,
    st.integers(1, 60),
    elements=st.floats(width=32, allow_nan=False, allow_infinity=False),
)


def ranks(levels: FloatArray) -> npt.NDArray[np.uint8]:
    return np.arange(levels.size, dtype=np.uint8)


def snr_db(tensor: FloatArray, levels: FloatArray) -> float:
    chosen = levels[choose(tensor, levels, ranks(levels), None)]
    noise = np.sum((tensor.astype(np.float64) - chosen) ** 2)
    return float(10 * np.log10(np.sum(tensor.astype(np.float64) ** 2) / noise))


def lloyd(values: Doubles, levels: Doubles, iterations: int) -> Doubles:
    """Lloyd's algorithm as in a textbook."""
    for _ in range(iterations):
        nearest = np.abs(values[:, None] - levels).argmin(axis=1)
        for k in range(levels.size):
            if np.any(nearest == k):
                levels[k] = values[nearest == k].mean()
    return levels


@settings(max_examples=300, deadline=None)
@given(values=FINITE, count=st.integers(2, 20))
def test_the_nearest_level_is_chosen_whatever_the_values(values: FloatArray, count: int) -> None:
    levels = fit(values, count, cover=False)
    chosen = levels[choose(values, levels, ranks(levels), None)]
    distances = np.abs(values.astype(np.float64)[:, None] - levels.astype(np.float64))
    assert np.array_equal(np.abs(values.astype(np.float64) - chosen), distances.min(axis=1))


@settings(max_examples=300, deadline=None)
@given(values=FINITE, count=st.integers(3, 20), counter=st.integers(0, 2**64 - 1))
def test_a_covering_fit_leaves_every_value_between_the_two_levels_that_it_may_take(
    values: FloatArray, count: int, counter: int
) -> None:
    levels = fit(values, count, cover=True)
    assert (levels[0], levels[-1]) == (values.min(), values.max())
    chosen = choose(values, levels, ranks(levels), CodecContext(counter=counter))
    below = np.searchsorted(levels, values, side="right") - 1
    exact = levels[below] == values
    assert np.array_equal(chosen[exact], below[exact])
    assert np.all((chosen == below) | (chosen == below + 1))


@settings(max_examples=300, deadline=None)
@given(values=FINITE, count=st.integers(3, 20), cover=st.booleans())
def test_levels_are_distinct_and_ascending_and_hold_zero_and_few_values(
    values: FloatArray, count: int, cover: bool
) -> None:
    levels = fit(values, count, cover=cover)
    assert 1 <= levels.size <= count
    assert np.all(np.diff(levels.astype(np.float64)) > 0)
    assert not np.any(np.signbit(levels) & (levels == 0))
    if np.any(values == 0):
        assert 0.0 in levels
    if np.unique(values).size <= count:
        assert np.array_equal(levels, np.unique(values + np.float32(0)))


@pytest.mark.parametrize("count", [4, 16, 64])
def test_levels_are_those_of_lloyds_algorithm(count: int) -> None:
    sample = np.sort(gradient(20, 50).reshape(-1))
    levels = np.empty(count, np.float64)
    spread_levels(sample, levels)
    assert np.all(np.diff(levels) > 0)
    expected = lloyd(sample.astype(np.float64), levels.copy(), 10)
    move_levels(sample, np.zeros(count, np.bool_), levels)
    assert np.allclose(levels, expected, rtol=1e-9, atol=1e-15)


def test_fixed_levels_stay() -> None:
    sample = np.sort(gradient(20, 50).reshape(-1))
    levels = np.linspace(sample[0], sample[-1], 8, dtype=np.float64)
    fixed = np.array([True, False, False, True, False, False, False, True])
    kept = levels[fixed].copy()
    move_levels(sample, fixed, levels)
    assert np.array_equal(levels[fixed], kept)
    assert np.all(np.diff(levels) >= 0)


@pytest.mark.parametrize("count", [16, 64, 256])
@pytest.mark.parametrize("make", [activation, gradient])
def test_levels_are_hardly_worse_than_those_of_a_long_search_and_far_better_than_quantiles(
    make: object, count: int
) -> None:
    assert callable(make)
    tensor = make(128, 128).reshape(-1)
    found = snr_db(tensor, fit(tensor, count, cover=False))
    ordered = np.sort(tensor)
    quantiles = np.unique(ordered[(2 * np.arange(count) + 1) * tensor.size // (2 * count)])
    best = np.empty(count, np.float64)
    spread_levels(ordered, best)
    for _ in range(50):
        move_levels(ordered, np.zeros(count, np.bool_), best)
    assert found > snr_db(tensor, best.astype(np.float32)) - 0.3
    assert found > snr_db(tensor, quantiles) + 4


def test_uniform_values_get_uniform_levels() -> None:
    rng = np.random.default_rng(2)
    tensor = rng.random(1 << 18, np.float32)
    levels = fit(tensor, 8, cover=False)
    assert np.allclose(levels, (np.arange(8) + 0.5) / 8, atol=0.01)


def test_the_sample_of_a_large_matrix_sees_every_column() -> None:
    # Elements at equal distances would see a few of these columns, and miss all the others.
    rng = np.random.default_rng(3)
    columns = rng.permutation(np.arange(1, 2049)).astype(np.float32)
    tensor = np.tile(columns, 1024)
    assert tensor.size == 128 * SAMPLE
    levels = fit(tensor, 16, cover=False)
    assert np.allclose(levels, (np.arange(16) + 0.5) * 128, atol=16)


def test_stochastic_choice_is_unbiased() -> None:
    tensor = gradient(16, 24).reshape(-1)
    levels = fit(tensor, 6, cover=True)
    n = 4000
    total = np.zeros(tensor.size)
    for counter in range(n):
        total += levels[choose(tensor, levels, ranks(levels), CodecContext(counter=counter))]
    below = np.minimum(np.searchsorted(levels, tensor, side="right") - 1, levels.size - 2)
    deviation = (total / n - tensor) / np.diff(levels)[below]
    assert np.abs(deviation).max() < 6 * 0.5 / np.sqrt(n)
    assert abs(deviation.mean()) < 6 * 0.5 / np.sqrt(n * tensor.size)


def test_ranks_are_written_and_not_places() -> None:
    levels = np.array([-1.0, 0.0, 3.0], np.float32)
    values = np.array([-2.0, 0.2, 9.0, -0.4], np.float32)
    assert choose(values, levels, np.array([7, 0, 255], np.uint8), None).tolist() == [7, 0, 255, 0]


def test_neighbouring_floats_are_told_apart() -> None:
    # Their midpoint is no float, and rounds to one of them.
    for first in (0.0, 1.0, -2.0, 3.4028233e38, -1e-45):
        low = np.float32(first)
        levels = np.array([low, np.nextafter(low, np.float32(np.inf))], np.float32)
        assert choose(levels, levels, ranks(levels), None).tolist() == [0, 1]


def test_a_mean_beside_a_huge_value_stays_among_its_own() -> None:
    sample = np.array([-3e38, 1.0, 2.0, 3.0, 100.0, 101.0], np.float32)
    levels = np.array([-3e38, 2.0, 100.0])
    move_levels(sample, np.zeros(3, np.bool_), levels)
    assert levels[0] == sample[0]
    assert 1.0 <= levels[1] <= 3.0
    assert 100.0 <= levels[2] <= 101.0


def test_fractions_that_the_noise_cannot_show_are_rounded_and_not_cut() -> None:
    levels = np.array([0.0, 1.0], np.float32)
    for fraction, expected in ((2.0**-18, 0), (1 - 2.0**-18, 1)):
        values = np.full(1 << 20, fraction, np.float32)
        assert np.all(choose(values, levels, ranks(levels), CodecContext(seed=9)) == expected)
