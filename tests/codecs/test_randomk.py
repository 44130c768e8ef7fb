from __future__ import annotations

import numpy as np
import pytest

from slstream.codecs.chain import CodecChain
from slstream.codecs.contract import CodecContext, FloatArray, TensorSpec
from slstream.codecs.ecsq import Ecsq
from slstream.codecs.randomk import RandomK
from slstream.codecs.raw32 import Raw32
from slstream.codecs.registry import codec_from_config
from slstream.codecs.row_integers import Q8Row
from slstream.errors import CodecConfigError, DecodeError, EncodeError
from slstream.testing.codecs import activation, gradient, peak_bytes

CONTEXT = CodecContext(seed=1, counter=2)


def decoded(codec: RandomK, tensor: FloatArray, context: CodecContext = CONTEXT) -> FloatArray:
    return codec.decode(codec.encode(tensor, context), TensorSpec(shape=tensor.shape), context)


@pytest.mark.parametrize("values", [Raw32(), Q8Row(rounding="stochastic")])
@pytest.mark.parametrize("make", [activation, gradient])
def test_scaled_it_is_unbiased(make: object, values: Raw32 | Q8Row) -> None:
    assert callable(make)
    tensor = make(8, 30)
    tensor /= np.abs(tensor).max(axis=1, keepdims=True)
    codec = RandomK(fraction=0.25, values=values)  # 8 of 30: not a quarter
    n = 4000
    total = np.zeros(tensor.shape)
    for counter in range(n):
        total += decoded(codec, tensor, CodecContext(seed=4, counter=counter))
    sigma = np.abs(tensor) * np.sqrt((30 / 8 - 1) / n) + 30 / 8 / 127 / np.sqrt(n)
    deviation = (total / n - tensor) / sigma
    assert np.abs(deviation).max() < 5
    assert abs(deviation.mean()) < 5 / np.sqrt(tensor.size)


def test_not_scaled_the_mean_is_too_small_by_the_share() -> None:
    tensor = np.ones((400, 50), np.float32)
    mean = decoded(RandomK(fraction=0.2, scaled=False, values=Raw32()), tensor).mean()
    assert mean == pytest.approx(0.2, abs=1e-6)
    assert decoded(RandomK(fraction=0.2, values=Raw32()), tensor).mean() == pytest.approx(1.0)


def test_places_cost_no_bytes() -> None:
    tensor = gradient(64, 100)
    data = RandomK(fraction=0.1, values=Raw32()).encode(tensor, CONTEXT)
    assert len(data) == 1 + 4 * 64 * 10
    values = np.frombuffer(data[1:], "<f4").reshape(64, 10)
    for row, kept in zip(tensor, values, strict=True):
        at = [int(np.flatnonzero(row == value)[0]) for value in kept]
        assert at == sorted(set(at))
    assert len(RandomK(fraction=0.1).encode(tensor, CONTEXT)) == 1 + 1 + 64 * (2 + 10)


def test_places_follow_the_context_of_encoder_and_decoder() -> None:
    tensor = np.abs(gradient(64, 100)) + np.float32(1e-9)
    codec = RandomK(values=Raw32())
    first = decoded(codec, tensor) != 0
    second = decoded(codec, tensor, CodecContext(seed=1, counter=3)) != 0
    assert np.all(first.sum(axis=1) == 10)
    assert abs(np.mean(first & second) - 0.01) < 0.01
    assert not np.array_equal(first[0], first[1])


@pytest.mark.parametrize(
    "tensor", [np.zeros((5, 6), np.float32), np.zeros((0, 6), np.float32), np.zeros(0, np.float32)]
)
def test_zero_and_empty_tensors_take_one_byte(tensor: FloatArray) -> None:
    assert RandomK().encode(tensor, CONTEXT) == b"\x02"
    assert decoded(RandomK(), tensor).shape == tensor.shape


def test_fraction_1_one_column_one_dimension_and_a_constant_work() -> None:
    tensor = gradient(9, 7)
    assert np.array_equal(decoded(RandomK(fraction=1, values=Raw32()), tensor), tensor)
    column = gradient(40, 1)
    assert np.array_equal(decoded(RandomK(values=Raw32()), column), column)
    vector = decoded(RandomK(values=Raw32()), np.full(200, -3.0, np.float32))
    assert sorted(np.unique(vector).tolist()) == [-30.0, 0.0]
    assert np.count_nonzero(vector) == 20


def test_tensors_that_scaling_would_overflow_go_raw() -> None:
    tensor = np.full((2, 4000), 3e38, np.float32)
    codec = RandomK(fraction=0.001)
    assert codec.encode(tensor, CONTEXT)[0] == 0
    assert np.array_equal(decoded(codec, tensor), tensor)


def test_parameters_and_nan_are_refused_by_name() -> None:
    with pytest.raises(CodecConfigError) as caught:
        codec_from_config({"id": "randomk", "scaled": 1})
    assert str(caught.value) == "scaled of codec 'randomk' must be true or false; got 1"
    with pytest.raises(CodecConfigError, match="fraction of codec 'randomk' must be a number"):
        codec_from_config({"id": "randomk", "fraction": 0.0001})
    tensor = activation(3, 4)
    tensor[2, 1] = np.inf
    with pytest.raises(EncodeError, match=r"'randomk' refuses NaN and Inf: found inf at .*2, 1"):
        RandomK().encode(tensor, CONTEXT)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\x03", "expected form 0, 1 or 2, 0 or 2 if there are no elements; got 3"),
        (b"\x02\x00", r"expected 1 bytes for shape \(64, 64\), got 2"),
        (b"\x01\x01" + bytes(575), "codec 'q8row': expected 577 bytes"),
        (b"\x01\x01" + bytes(9000), "codec 'q8row': expected 577 bytes"),
    ],
)
def test_bytes_that_no_encoder_writes_are_refused(data: bytes, message: str) -> None:
    with pytest.raises(DecodeError, match=message):
        RandomK().decode(data, TensorSpec(shape=(64, 64)), CONTEXT)
    with pytest.raises(DecodeError, match="if there are no elements"):
        RandomK().decode(b"\x01" + data, TensorSpec(shape=(0, 64)), CONTEXT)


@pytest.mark.parametrize("fraction", [0.1, 0.5, 0.96, 1.0])
def test_decoding_stays_within_twice_the_tensor(fraction: float) -> None:
    tensor = gradient(2048, 256)
    for values in (Raw32(), Ecsq(step=0.05)):
        chain = CodecChain(RandomK(fraction=fraction, values=values))
        data = chain.encode(tensor, CONTEXT)
        for each in (data, data + bytes(4 * tensor.nbytes), data[: len(data) // 2]):
            assert peak_bytes(chain, each, tensor.shape, CONTEXT) <= 2 * tensor.nbytes + 256 * 1024
