from __future__ import annotations

import numpy as np
import pytest

from slstream.codecs.contract import TensorSpec
from slstream.codecs.scale_context import Layout
from slstream.codecs.sign_product import ByteArray, find, follow, turn

RNG = np.random.default_rng(6)


def symbols_of(values: np.ndarray[tuple[int, ...], np.dtype[np.int64]]) -> ByteArray:
    symbols: ByteArray = np.minimum((values << 1) ^ (values >> 63), 255).astype(np.uint8)
    return symbols.reshape(-1)


def values_of(symbols: ByteArray) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    wide = symbols.astype(np.int64)
    return (wide >> 1) ^ -(wide & 1)


def found(values: np.ndarray[tuple[int, ...], np.dtype[np.int64]]) -> ByteArray | None:
    layout = Layout.of(TensorSpec(shape=values.shape))
    symbols = np.concatenate((np.empty(layout.classes, np.uint8), symbols_of(values)))
    layout.fit(symbols)
    return find(symbols[layout.classes :], layout, symbols[: layout.classes])


def test_what_follows_from_rows_and_columns_is_found() -> None:
    rows, columns = RNG.choice([-1, 1], (100, 1)), RNG.choice([-1, 1], 48)
    values = rows * columns * RNG.integers(0, 4, (100, 48))
    signs = found(values)
    assert signs is not None
    symbols = symbols_of(values)
    turn(symbols, signs[:100], signs[100:])
    assert np.array_equal(values_of(symbols), np.abs(values).reshape(-1)) or np.array_equal(
        values_of(symbols), -np.abs(values).reshape(-1)
    )


def test_most_is_found_where_a_part_does_not_follow() -> None:
    rows, columns = RNG.choice([-1, 1], (300, 1)), RNG.choice([-1, 1], 64)
    exceptions = np.where(RNG.random((300, 64)) < 0.1, -1, 1)
    values = rows * columns * exceptions * RNG.integers(0, 4, (300, 64))
    signs = found(values)
    assert signs is not None
    agreeing = (1 - 2 * signs[:300].astype(int))[:, None] * (1 - 2 * signs[300:].astype(int))
    right = np.mean((agreeing * values > 0)[values != 0])
    assert max(right, 1 - right) > 0.89


@pytest.mark.parametrize(
    "values",
    [
        RNG.integers(-2, 3, (200, 64)),  # at random
        RNG.integers(0, 3, (200, 64)),  # nothing to tell
        np.zeros((200, 64), np.int64),
        np.full((20, 400), -1),  # too few rows for classes
        np.full((400, 20), -1),
        np.diag(np.full(40, -2)),  # fewer signs than rows and columns
    ],
    ids=["random", "positive", "zero", "few rows", "few columns", "sparse"],
)
def test_nothing_is_found_where_it_does_not_pay(
    values: np.ndarray[tuple[int, ...], np.dtype[np.int64]],
) -> None:
    assert found(values) is None


def test_what_is_counted_is_what_is_there() -> None:
    values = RNG.integers(-3, 4, (70, 33))
    rows, columns = np.empty(70, np.uint8), np.empty(33, np.uint8)
    others, negative, against = follow(symbols_of(values), 3, rows, columns)
    product = (1 - 2 * rows.astype(int))[:, None] * (1 - 2 * columns.astype(int))
    assert others == np.count_nonzero(values)
    assert negative == np.count_nonzero(values < 0)
    assert against == np.count_nonzero(values * product < 0)


def test_turning_twice_is_nothing_and_once_changes_each_sign_but_that_of_escapes() -> None:
    symbols = np.arange(256, dtype=np.uint8)
    once = symbols.copy()
    turn(once, np.array([1, 0], np.uint8), np.zeros(128, np.uint8))
    assert np.array_equal(values_of(once[:128]), -values_of(symbols[:128]))
    assert np.array_equal(once[128:], symbols[128:])
    other = symbols.copy()
    turn(other, np.array([0, 1], np.uint8), np.zeros(128, np.uint8))
    assert np.array_equal(values_of(other[128:-1]), -values_of(symbols[128:-1]))
    assert other[255] == 255
    turn(once, np.array([1, 0], np.uint8), np.zeros(128, np.uint8))
    assert np.array_equal(once, symbols)
