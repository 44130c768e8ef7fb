"""``delta``: both ends remember the same for ever, changes cost little, row numbers are checked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from slstream.codecs.contract import CodecContext, FloatArray, RowArray, StateSpec, TensorSpec
from slstream.codecs.delta import Delta, DeltaState
from slstream.codecs.klt import Klt
from slstream.errors import CodecConfigError, DecodeError, EncodeError

ROWS, WIDTH = 400, 24


def begin(codec: Delta) -> DeltaState:
    return codec.new_state(StateSpec(rows=ROWS, row_shape=(WIDTH,)))


def same(state: DeltaState, other: DeltaState) -> bool:
    others = other.arrays()
    return all(np.array_equal(array, others[name]) for name, array in state.arrays().items())


def send(
    codec: Delta, tensor: FloatArray, rows: RowArray, *states: DeltaState
) -> tuple[bytes, list[FloatArray]]:
    """Encode with the first state; decode with all of them."""
    contexts = [CodecContext(rows=rows, state=state) for state in states]
    data = codec.encode(tensor, contexts[0])
    spec = TensorSpec(shape=tensor.shape)
    return data, [codec.decode(data, spec, context) for context in contexts]


class Training:
    """Activations of a session's rows under a model that changes with each step."""

    def __init__(self, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.features = self.rng.standard_normal((ROWS, 8))
        self.weights = self.rng.standard_normal((8, WIDTH))

    def batch(self, size: int = 64, *, change: float = 0.01) -> tuple[FloatArray, RowArray]:
        self.weights += change * self.rng.standard_normal((8, WIDTH))
        rows = self.rng.permutation(ROWS)[:size]
        return np.maximum(self.features[rows] @ self.weights, 0).astype(np.float32), rows


@pytest.mark.parametrize(
    "updates", [2_000, pytest.param(1_000_000, marks=[pytest.mark.long, pytest.mark.timeout(3600)])]
)
def test_both_ends_stay_equal_over_many_random_batches(updates: int) -> None:
    codec = Delta(step=0.7, refresh=50)
    sender, receiver, training = begin(codec), begin(codec), Training()
    for i in range(updates):
        tensor, rows = training.batch(int(training.rng.integers(0, 20)))
        if i % 97 == 3:
            tensor *= np.float32(training.rng.choice([0, 1e-30, 300.0, 1e36]))
        _, (decoded, *_) = send(codec, tensor, rows, sender, receiver)
        if i % 50 == 0 or i > updates - 50:
            assert same(sender, receiver)
            assert np.all(np.isfinite(decoded))
    assert same(sender, receiver)


def test_errors_do_not_add_up() -> None:
    codec = Delta(step=0.5)
    state, training = begin(codec), Training()
    for _ in range(300):
        tensor, rows = training.batch()
        _, (decoded, *_) = send(codec, tensor, rows, state)
    rms = np.sqrt(np.mean(tensor**2))
    errors = (decoded - tensor).astype(np.float64) @ (state.rotation.basis.T * 2.0**-20)
    # Coordinates are within 0.6 steps; rounding elements adds 1/32 of a step to each of them.
    assert np.abs(errors).max() <= (0.6 + np.sqrt(WIDTH) / 32) * 0.5 * rms * 1.04


def test_changes_take_a_fraction_of_what_the_tensors_take() -> None:
    codec, stateless = Delta(), Klt()
    state, training = begin(codec), Training()
    whole = CodecContext(state=stateless.new_state(StateSpec(rows=0, row_shape=(WIDTH,))))
    sizes, whole_sizes = [], []
    for i in range(120):
        tensor, rows = training.batch(change=0.003)
        data, _ = send(codec, tensor, rows, state)
        other = stateless.encode(tensor, whole)
        stateless.decode(other, TensorSpec(shape=tensor.shape), whole)
        if i >= 60:
            sizes.append(len(data))
            whole_sizes.append(len(other))
    assert sum(sizes) < sum(whole_sizes) / 4


def test_a_row_that_was_never_sent_is_sent_whole() -> None:
    codec = Delta(step=0.1)
    state, training = begin(codec), Training()
    tensor, rows = training.batch(200)
    send(codec, tensor[:100], rows[:100], state)
    mixed = np.r_[50:150]
    _, (decoded, *_) = send(codec, tensor[mixed], rows[mixed], state)
    assert np.abs(decoded - tensor[mixed]).max() < 0.1 * 2 * np.sqrt(np.mean(tensor**2))


@pytest.mark.parametrize("scale", [0.0, 1e-6, 1e6])
def test_predictions_that_do_not_fit_are_left_out(scale: float) -> None:
    codec = Delta()
    state, training = begin(codec), Training()
    tensor, rows = training.batch(100)
    first, _ = send(codec, tensor, rows, state)
    scaled = -tensor * np.float32(scale)
    data, (decoded, *_) = send(codec, scaled, rows, state)
    assert len(data) < 2 * len(first)
    assert np.abs(decoded - scaled).max() <= 3 * np.sqrt(np.mean(scaled**2))
    assert np.array_equal(decoded == 0, np.ones_like(decoded, bool)) == (scale == 0.0)


def test_rows_that_went_raw_are_forgotten_at_both_ends() -> None:
    codec = Delta()
    sender, receiver, training = begin(codec), begin(codec), Training()
    tensor, rows = training.batch(30)
    send(codec, tensor, rows, sender, receiver)
    large = tensor * np.float32(1e35)
    data, (decoded, *_) = send(codec, large, rows, sender, receiver)
    assert data[0] == 0
    assert np.array_equal(decoded, large)
    assert not sender.remembered.exponents[rows].any()
    assert same(sender, receiver)


def test_only_rows_of_the_batch_are_touched_in_a_mapped_file(tmp_path: Path) -> None:
    made: list[npt.NDArray[Any]] = []

    def allocate(shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        path = tmp_path / str(len(made))
        made.append(np.memmap(path, dtype=dtype, mode="w+", shape=shape))
        return made[-1]

    codec = Delta()
    state = codec.new_state(StateSpec(rows=ROWS, row_shape=(WIDTH,), allocate=allocate))
    plain, training = begin(codec), Training()
    tensor, rows = training.batch(50)
    send(codec, tensor, rows, state, plain)
    assert [(array.shape, array.dtype) for array in made] == [
        ((ROWS, WIDTH), np.dtype(np.int16)),
        ((ROWS,), np.dtype(np.uint8)),
    ]
    others = np.setdiff1d(np.arange(ROWS), rows)
    assert made[0][rows].any()
    assert not made[0][others].any()
    assert not made[1][others].any()
    assert same(state, plain)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (None, "row numbers.*found none"),
        (np.arange(5), r"of shape \(4,\); found int64 of shape \(5,\)"),
        (np.arange(4, dtype=np.int32), "found int32"),
        (np.array([0, 1, 2, ROWS]), f"0 to {ROWS - 1}; found 0 to {ROWS}"),
        (np.array([0, 1, 2, -1]), "found -1 to 2"),
        (np.array([7, 1, 2, 7]), "row 7 more than once"),
        ([0, 1, 2, 3], "found list"),
    ],
)
def test_wrong_row_numbers_are_refused_by_name(rows: Any, message: str) -> None:
    codec = Delta()
    state, tensor = begin(codec), np.ones((4, WIDTH), np.float32)
    good = CodecContext(rows=np.arange(4), state=state)
    data = codec.encode(tensor, good)
    context = CodecContext(rows=rows, state=state)
    with pytest.raises(EncodeError, match=message):
        codec.encode(tensor, context)
    with pytest.raises(DecodeError, match=message):
        codec.decode(data, TensorSpec(shape=tensor.shape), context)


def test_other_rows_or_remembered_values_are_refused() -> None:
    codec = Delta()
    sender, receiver, training = begin(codec), begin(codec), Training()
    tensor, rows = training.batch(20)
    send(codec, tensor, rows, sender, receiver)
    data = codec.encode(tensor, CodecContext(rows=rows, state=sender))
    spec = TensorSpec(shape=tensor.shape)
    with pytest.raises(DecodeError, match=r"'delta'.*continues the state"):
        codec.decode(data, spec, CodecContext(rows=rows[::-1].copy(), state=receiver))
    receiver.remembered.values[rows[3], 5] ^= 1
    with pytest.raises(DecodeError, match=r"'delta'.*continues the state"):
        codec.decode(data, spec, CodecContext(rows=rows, state=receiver))
    receiver.remembered.values[rows[3], 5] ^= 1
    codec.decode(data, spec, CodecContext(rows=rows, state=receiver))


@pytest.mark.parametrize("parameters", [{"step": 0.01}, {"step": 17}, {"refresh": 0}])
def test_parameters_out_of_range_are_refused(parameters: dict[str, object]) -> None:
    with pytest.raises(CodecConfigError, match=next(iter(parameters))):
        Delta(**parameters)  # type: ignore[arg-type]
