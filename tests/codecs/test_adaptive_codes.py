"""The adaptive entropy coder: exact, near the entropy, and safe on foreign bytes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slstream.codecs import adaptive_codes
from slstream.codecs.adaptive_codes import LARGEST, CodeArray
from slstream.errors import DecodeError

MANY = 1 << 22


def entropy(values: CodeArray) -> float:
    """Bits a value, of all values as one source."""
    _, counts = np.unique(values, return_counts=True)
    p = counts / counts.sum()
    return float(-(p * np.log2(p)).sum())


def matrix(rows: int, columns: int, scale: float) -> CodeArray:
    return np.rint(np.random.default_rng(7).normal(0, scale, (rows, columns))).astype(np.int32)


@pytest.mark.parametrize("scale", [0.0, 0.1, 0.5, 2.0, 20.0, 3e3, 2e5])
@pytest.mark.parametrize("shape", [(1, 1), (0, 3), (3, 0), (5, 1), (200, 17)])
def test_values_and_models_round_trip(shape: tuple[int, int], scale: float) -> None:
    values = matrix(*shape, scale)
    ends = adaptive_codes.new_models(max(shape[1], 1)), adaptive_codes.new_models(max(shape[1], 1))
    for _ in range(3):
        data = adaptive_codes.encode(values, ends[0], MANY)
        assert data is not None
        decoded = adaptive_codes.decode(np.frombuffer(data, np.uint8), *shape, ends[1])
        assert np.array_equal(decoded, values)
        assert np.array_equal(*ends)


def test_the_largest_values_round_trip_with_fewer_models_than_columns() -> None:
    values = np.array([[LARGEST, -LARGEST, 8, -9, LARGEST - 1, 0]], np.int32)
    data = adaptive_codes.encode(values, adaptive_codes.new_models(2), MANY)
    assert data is not None
    models = adaptive_codes.new_models(2)
    assert np.array_equal(
        adaptive_codes.decode(np.frombuffer(data, np.uint8), 1, 6, models), values
    )


@pytest.mark.parametrize(("scale", "over"), [(0.3, 1.08), (1.0, 1.04), (3.0, 1.05)])
def test_learnt_models_come_near_the_entropy(scale: float, over: float) -> None:
    models = adaptive_codes.new_models(16)
    values = matrix(2000, 16, scale)
    adaptive_codes.encode(values, models, MANY)
    data = adaptive_codes.encode(values, models, MANY)
    assert data is not None
    assert 8 * len(data) / values.size < over * entropy(values)


def test_zeros_cost_next_to_nothing() -> None:
    models, zeros = adaptive_codes.new_models(64), np.zeros((512, 64), np.int32)
    for most in (250, 20):
        data = adaptive_codes.encode(zeros, models, MANY)
        assert data is not None
        assert len(data) <= most


def test_carries_reach_bytes_that_seemed_done() -> None:
    # Long runs of improbable values keep the interval near its end, so that bytes of 255 queue.
    rng = np.random.default_rng(1)
    for _ in range(200):
        values = (rng.random((60, 3)) < rng.choice([0.001, 0.5, 0.999])).astype(np.int32)
        models = adaptive_codes.new_models(3)
        models[:] = rng.integers(0, 65536, models.shape)
        copy = models.copy()
        data = adaptive_codes.encode(values, models, MANY)
        assert data is not None
        decoded = adaptive_codes.decode(np.frombuffer(data, np.uint8), 60, 3, copy)
        assert np.array_equal(decoded, values)


def test_no_more_than_the_limit_is_written() -> None:
    values = matrix(100, 10, 50.0)
    size = len(adaptive_codes.encode(values, adaptive_codes.new_models(10), MANY) or b"")
    assert adaptive_codes.encode(values, adaptive_codes.new_models(10), size - 1) is None
    assert adaptive_codes.encode(values, adaptive_codes.new_models(10), 0) is None
    assert adaptive_codes.encode(values, adaptive_codes.new_models(10), size + 4) is not None


def test_bytes_behind_the_code_are_refused() -> None:
    data = adaptive_codes.encode(matrix(9, 4, 1.0), adaptive_codes.new_models(4), MANY)
    assert data is not None
    for extra in (b"\0", bytes(9) + b"\1"):
        foreign = np.frombuffer(data + extra, np.uint8)
        with pytest.raises(DecodeError, match="9 x 4"):
            adaptive_codes.decode(foreign, 9, 4, adaptive_codes.new_models(4))


@settings(max_examples=200, deadline=None)
@given(data=st.binary(max_size=60), rows=st.integers(0, 20), columns=st.integers(0, 20))
def test_foreign_bytes_decode_or_are_refused(data: bytes, rows: int, columns: int) -> None:
    models = adaptive_codes.new_models(5)
    try:
        values = adaptive_codes.decode(np.frombuffer(data, np.uint8), rows, columns, models)
    except DecodeError:
        return
    assert values.shape == (rows, columns)
    assert np.all(np.abs(values) <= LARGEST)
