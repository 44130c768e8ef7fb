"""``klt``: errors and bias in bounds, rate below that of ``ecsq``, bases that follow the data."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from slstream.codecs.contract import CodecContext, FloatArray, StateSpec, TensorSpec
from slstream.codecs.ecsq import Ecsq
from slstream.codecs.klt import Klt, KltState
from slstream.codecs.principal_basis import identity
from slstream.errors import CodecConfigError, DecodeError, EncodeError

REPLACED = 3


def low_rank(rows: int, width: int, *, model: int, batch: int) -> FloatArray:
    """A batch of rows that a few directions of a model make up, and a little more."""
    mixing = np.random.default_rng(model).standard_normal((6, width)) / np.arange(1, 7)[:, None]
    rng = np.random.default_rng(batch)
    tensor = rng.standard_normal((rows, 6)) @ mixing + 0.02 * rng.standard_normal((rows, width))
    return tensor.astype(np.float32)


def send(codec: Klt, tensor: FloatArray, context: CodecContext) -> tuple[bytes, FloatArray]:
    data = codec.encode(tensor, context)
    return data, codec.decode(data, TensorSpec(shape=tensor.shape), context)


def begin(codec: Klt, width: int) -> tuple[CodecContext, KltState]:
    state = codec.new_state(StateSpec(rows=0, row_shape=(width,)))
    return CodecContext(seed=1, state=state), state


@pytest.mark.parametrize("step", [0.05, 0.5, 2.0])
@pytest.mark.parametrize(("rounding", "most"), [("nearest", 0.6), ("stochastic", 1.0)])
def test_the_error_of_a_coordinate_is_bounded(step: float, rounding: str, most: float) -> None:
    codec = Klt(step=step, rounding=rounding)
    tensor = low_rank(200, 24, model=1, batch=1)
    context, state = begin(codec, 24)
    _, decoded = send(codec, tensor, context)
    rms = float(np.sqrt(np.mean(tensor.astype(np.float64) ** 2)))
    errors = (decoded - tensor).astype(np.float64) @ (state.rotation.basis.T * 2.0**-20)
    assert not np.array_equal(state.rotation.basis, identity(24))
    assert np.abs(errors).max() <= most * step * rms * 1.04  # a step is within 3 % of its size


def test_stochastic_rounding_has_no_bias_in_any_direction() -> None:
    codec = Klt(step=2.0, rounding="stochastic")
    tensor = low_rank(64, 16, model=2, batch=3)
    tensor[:, 7] += 0.3
    context, state = begin(codec, 16)
    start = {name: array.copy() for name, array in state.arrays().items()}
    total = np.zeros(tensor.shape)
    count = 3000
    for i in range(count):
        for name, array in state.arrays().items():
            array[...] = start[name]
        total += send(codec, tensor, replace(context, counter=i))[1]
    step = 2 * float(np.sqrt(np.mean(tensor**2)))
    # An element's error is at most that of a coordinate: a deviation of half a step.
    deviations = (total / count - tensor) / (0.5 * step / np.sqrt(count))
    assert np.abs(deviations).max() < 5
    assert abs(deviations.mean()) < 5 / np.sqrt(tensor.size)


def test_it_takes_far_fewer_bytes_than_ecsq_on_correlated_columns() -> None:
    codec, plain = Klt(), Ecsq()
    context, _ = begin(codec, 64)
    sizes, plain_sizes = [], []
    for batch in range(10):
        tensor = low_rank(256, 64, model=4, batch=batch)
        data, decoded = send(codec, tensor, context)
        unrotated = plain.decode(
            plain.encode(tensor, CodecContext()), TensorSpec(shape=tensor.shape), CodecContext()
        )
        assert np.square(decoded - tensor).mean() < np.square(unrotated - tensor).mean()
        sizes.append(len(data))
        plain_sizes.append(len(plain.encode(tensor, CodecContext())))
    assert sum(sizes) < sum(plain_sizes) / 3


def test_a_basis_is_kept_and_replaced_when_the_data_turn() -> None:
    codec = Klt(refresh=16)
    context, state = begin(codec, 32)
    sent = []
    for batch in range(96):
        tensor = low_rank(256, 32, model=5 if batch < 48 else 6, batch=batch)
        data, _ = send(codec, tensor, context)
        if data[0] == REPLACED:
            sent.append(batch)
    assert sent[0] == 0
    assert not [batch for batch in sent if 8 < batch < 48]
    assert [batch for batch in sent if 48 <= batch < 65]
    assert state.rotation.history != 0


def test_noise_that_no_basis_helps_keeps_the_unit_vectors() -> None:
    codec = Klt()
    context, state = begin(codec, 32)
    for batch in range(5):
        tensor = np.random.default_rng(batch).standard_normal((400, 32)).astype(np.float32)
        assert send(codec, tensor, context)[0][0] != REPLACED
    assert np.array_equal(state.rotation.basis, identity(32))
    assert state.rotation.numbers[1] == 5, "tensors with one basis are counted"


def test_wide_rows_are_sent_without_a_basis() -> None:
    codec = Klt()
    context, state = begin(codec, 600)
    assert "basis" not in state.arrays()
    tensor = low_rank(50, 600, model=1, batch=1)
    data, decoded = send(codec, tensor, context)
    assert len(data) < tensor.nbytes / 8
    assert np.abs(decoded - tensor).max() <= 0.62 * np.sqrt(np.mean(tensor**2))


def test_bytes_from_another_state_are_refused_by_name() -> None:
    codec = Klt()
    (sender, _), (receiver, state) = begin(codec, 8), begin(codec, 8)
    tensor = low_rank(20, 8, model=1, batch=1)
    send(codec, tensor, sender)
    second = codec.encode(tensor, sender)
    before = {name: array.copy() for name, array in state.arrays().items()}
    with pytest.raises(DecodeError, match=r"'klt'.*state 00000000.*lost, came twice"):
        codec.decode(second, TensorSpec(shape=tensor.shape), receiver)
    assert all(np.array_equal(array, before[name]) for name, array in state.arrays().items())


def test_foreign_bodies_with_the_right_check_are_refused_or_decode() -> None:
    codec, rng = Klt(), np.random.default_rng(5)
    tensor = low_rank(40, 24, model=1, batch=1)
    spec = TensorSpec(shape=tensor.shape)
    data = codec.encode(tensor, begin(codec, 24)[0])
    assert data[0] == REPLACED
    refused = 0
    for _ in range(600):
        foreign = bytearray(data)
        for _ in range(int(rng.integers(1, 4))):
            foreign[int(rng.integers(5, min(len(data), 60)))] = int(rng.integers(256))
        try:
            decoded = codec.decode(foreign, spec, begin(codec, 24)[0])
        except DecodeError:
            refused += 1
        else:
            assert decoded.shape == tensor.shape
            assert np.all(np.isfinite(decoded))
    assert refused > 50


def test_a_context_without_the_state_is_refused_by_name() -> None:
    tensor = low_rank(4, 8, model=1, batch=1)
    with pytest.raises(EncodeError, match=r"'klt' expected its state.*found none"):
        Klt().encode(tensor, CodecContext())
    narrow, _ = begin(Klt(), 7)
    with pytest.raises(EncodeError, match=r"rows of 7 elements.*shape \(4, 8\)"):
        Klt().encode(tensor, narrow)


@pytest.mark.parametrize(
    "parameters", [{"step": 0.01}, {"step": 17}, {"rounding": "up"}, {"refresh": 0}]
)
def test_parameters_out_of_range_are_refused(parameters: dict[str, object]) -> None:
    with pytest.raises(CodecConfigError, match=next(iter(parameters))):
        Klt(**parameters)  # type: ignore[arg-type]
