from __future__ import annotations

import numpy as np
import pytest

from slstream.codecs.contract import CodecContext, FloatArray, TensorSpec
from slstream.codecs.kmeans import KMeans
from slstream.codecs.levels import SAMPLE
from slstream.errors import CodecConfigError, DecodeError, EncodeError
from slstream.testing.codecs import activation, edge_tensors, gradient

CONTEXT = CodecContext(seed=1, counter=2)
CODED, PACKED = 1, 2


def round_trip(codec: KMeans, tensor: FloatArray, context: CodecContext = CONTEXT) -> FloatArray:
    data = codec.encode(tensor, context)
    return codec.decode(data, TensorSpec(shape=tensor.shape), context)


def levels_of(data: bytes) -> FloatArray:
    """The levels that are written, ascending."""
    return np.sort(np.frombuffer(data, "<f4", data[1] + 1, 2))


def few_values(count: int, shape: tuple[int, ...]) -> FloatArray:
    """A tensor of that many distinct values over many scales, not all as frequent."""
    rng = np.random.default_rng(count)
    values = (rng.standard_normal(count) * np.exp(4 * rng.standard_normal(count))).astype(
        np.float32
    )
    picks = rng.integers(0, count, shape) * rng.integers(0, count, shape) // count
    picks.reshape(-1)[:count] = np.arange(count)
    tensor: FloatArray = values[picks]
    return tensor


@pytest.mark.parametrize("rounding", ["nearest", "stochastic"])
@pytest.mark.parametrize(
    "tensor",
    [
        np.full((512, 256), 3.0, np.float32),
        np.zeros((512, 256), np.float32),
        np.full((64, 8), -0.0, np.float32),
        np.array([[10.0, 11.0, 12.0, 13.0]] * 40, np.float32),
        np.array([10.0, 11.0, 12.0, 13.0] * 40, np.float32),
        np.tile(np.array([-1.0, 1.0], np.float32), (300, 100)),
        np.array([[5.0]], np.float32),
        np.full((3, 3), np.float32(1e-45)),
    ],
    ids=["constant", "zero", "-0", "positive", "1-D", "two values", "one element", "subnormal"],
)
def test_a_tensor_of_few_values_is_exact(tensor: FloatArray, rounding: str) -> None:
    codec = KMeans(rounding=rounding)
    assert np.array_equal(round_trip(codec, tensor), tensor)
    assert len(codec.encode(tensor, CONTEXT)) <= tensor.nbytes + 1


@pytest.mark.parametrize("count", [2, 3, 5, 16, 17, 255, 256])
@pytest.mark.parametrize("shape", [(64, 64), (SAMPLE,), (40, 4, 4, 4)])
def test_no_more_values_than_levels_are_exact(count: int, shape: tuple[int, ...]) -> None:
    tensor = few_values(count, shape)
    assert np.unique(tensor).size == count
    codec = KMeans(levels=count)
    data = codec.encode(tensor, CONTEXT)
    assert data[0] in (CODED, PACKED)
    assert np.array_equal(levels_of(data), np.unique(tensor))
    assert np.array_equal(round_trip(codec, tensor), tensor)
    assert np.array_equal(round_trip(KMeans(levels=256, rounding="stochastic"), tensor), tensor)


def test_a_symmetric_range_keeps_its_signs() -> None:
    tensor = np.tanh(np.linspace(-9, 9, 20480, dtype=np.float32)).reshape(320, 64)
    for levels in (2, 16, 256):
        decoded = round_trip(KMeans(levels=levels), tensor)
        assert np.all(decoded * tensor >= 0)
        assert np.abs(decoded).max() <= 1.0
    assert np.abs(round_trip(KMeans(levels=256), tensor) - tensor).max() < 0.02


def test_the_error_is_the_distance_to_the_nearest_level() -> None:
    for name, tensor in edge_tensors().items():
        if tensor.size == 0:
            continue
        for levels in (2, 16, 256):
            codec = KMeans(levels=levels)
            data = codec.encode(tensor, CONTEXT)
            decoded = round_trip(codec, tensor).astype(np.float64)
            if data[0] == 0:
                assert np.array_equal(decoded, tensor), name
                continue
            distances = np.abs(tensor.astype(np.float64)[..., None] - levels_of(data))
            assert np.array_equal(np.abs(decoded - tensor), distances.min(axis=-1)), name


def test_a_stochastic_error_is_below_the_distance_of_the_levels_around() -> None:
    for name, tensor in edge_tensors().items():
        for count in (3, 16, 256):
            codec = KMeans(levels=count, rounding="stochastic")
            data = codec.encode(tensor, CONTEXT)
            decoded = round_trip(codec, tensor)
            if data[0] == 0:
                assert np.array_equal(decoded, tensor), name
                continue
            levels = levels_of(data).astype(np.float64)
            below = np.searchsorted(levels, tensor, side="right") - 1
            around = (levels[below], levels[np.minimum(below + 1, levels.size - 1)])
            assert np.all((decoded == around[0]) | (decoded == around[1])), name


@pytest.mark.parametrize("make", [activation, gradient])
def test_stochastic_rounding_is_unbiased_and_nearest_is_not(make: object) -> None:
    assert callable(make)
    tensor = make(16, 24)
    codec = KMeans(levels=5, rounding="stochastic")
    levels = levels_of(codec.encode(tensor, CONTEXT))
    n = 3000
    total = np.zeros(tensor.shape)
    for counter in range(n):
        total += round_trip(codec, tensor, CodecContext(seed=4, counter=counter))
    below = np.minimum(np.searchsorted(levels, tensor, side="right") - 1, levels.size - 2)
    gaps = np.diff(levels)[below]
    deviation = (total / n - tensor) / gaps
    assert np.abs(deviation).max() < 6 * 0.5 / np.sqrt(n)
    assert abs(deviation.mean()) < 6 * 0.5 / np.sqrt(n * tensor.size)
    nearest = (round_trip(KMeans(levels=5), tensor) - tensor) / gaps
    assert np.abs(nearest).max() > 0.3


@pytest.mark.parametrize("count", [2, 3, 16, 256])
def test_zeros_stay_zero(count: int) -> None:
    lone = gradient(200, 100)
    lone[150, 3] = 0
    assert np.count_nonzero(lone == 0) == 1
    for tensor in (activation(256, 128), lone, -activation(256, 128), lone - lone.min()):
        zero = tensor == 0
        assert zero.any()
        for rounding in ("nearest", "stochastic") if count > 2 else ("nearest",):
            decoded = round_trip(KMeans(levels=count, rounding=rounding), tensor)
            assert not decoded[zero].any()


@pytest.mark.parametrize(
    ("make", "count", "most_bits", "least_db"),
    [
        (activation, 16, 2.2, 19.5),
        (activation, 256, 4.8, 43.0),
        (gradient, 16, 0.7, 12.0),
        (gradient, 256, 4.3, 35.0),
    ],
)
def test_size_and_error_are_as_stated(
    make: object, count: int, most_bits: float, least_db: float
) -> None:
    assert callable(make)
    tensor = make(512, 256)
    codec = KMeans(levels=count)
    assert 8 * len(codec.encode(tensor, CONTEXT)) / tensor.size < most_bits
    noise = np.sum((round_trip(codec, tensor).astype(np.float64) - tensor) ** 2)
    assert 10 * np.log10(np.sum(tensor.astype(np.float64) ** 2) / noise) > least_db


def test_indices_are_packed_where_that_is_smaller() -> None:
    rng = np.random.default_rng(1)
    for count, bits in ((2, 1), (3, 2), (4, 2), (15, 4), (16, 4), (250, 8), (256, 8)):
        codes = np.resize(rng.permutation(count), 603)
        tensor = np.arange(1, count + 1, dtype=np.float32)[codes]
        codec = KMeans(levels=count)
        data = codec.encode(tensor, CONTEXT)
        assert data[0] == PACKED
        assert len(data) == 2 + 4 * count + -(-603 * bits // 8)
        assert np.array_equal(round_trip(codec, tensor), tensor)
    assert len(KMeans().encode(np.full((512, 256), 3.0, np.float32), CONTEXT)) == 6


def test_a_tensor_too_small_to_gain_goes_raw() -> None:
    tensor = gradient(2, 3)
    assert KMeans(levels=256).encode(tensor, CONTEXT) == b"\0" + tensor.tobytes()


def test_noise_follows_the_context_and_nearest_rounding_does_not() -> None:
    tensor = gradient(256, 256)
    codec = KMeans(rounding="stochastic")
    same = codec.encode(tensor, CodecContext(seed=1, counter=2))
    assert codec.encode(tensor, CodecContext(seed=1, counter=2)) == same
    assert codec.encode(tensor, CodecContext(seed=1, counter=3)) != same
    assert codec.encode(tensor, CodecContext(seed=2, counter=2)) != same
    nearest = KMeans().encode(tensor, CodecContext(seed=1, counter=2))
    assert KMeans().encode(tensor, CodecContext(seed=7, counter=9)) == nearest


def test_nan_is_refused_by_name_and_index() -> None:
    tensor = activation(3, 4)
    tensor[1, 2] = np.nan
    tensor[2, 0] = np.inf
    with pytest.raises(EncodeError) as caught:
        KMeans().encode(tensor, CONTEXT)
    assert str(caught.value) == (
        "codec 'kmeans' refuses NaN and Inf: found nan at index (1, 2), 2 of 12 elements in all; "
        "look for a diverging loss or an overflow in the model, or send with raw32"
    )


def test_parameters_out_of_range_are_refused() -> None:
    for levels in (1, 257, 16.0):
        with pytest.raises(CodecConfigError, match="must be an integer from 2 to 256"):
            KMeans(levels=levels)  # type: ignore[arg-type]
    with pytest.raises(CodecConfigError, match="must be an integer from 3 to 256"):
        KMeans(levels=2, rounding="stochastic")
    with pytest.raises(CodecConfigError, match="rounding of codec 'kmeans' must be one of"):
        KMeans(rounding="up")


ONE = np.float32(1).tobytes()
NAN = np.float32(np.nan).tobytes()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\x03" + bytes(9), "expected form 0, 1 or 2, got 3"),
        (b"\x02", "expected a number of levels, got 1 bytes"),
        (b"\x02\x10" + 17 * ONE, "expected at most 16 levels of 4 bytes, got 17 in 70 bytes"),
        (b"\x02\x01" + ONE, "expected at most 16 levels of 4 bytes, got 2 in 6 bytes"),
        (b"\x02\x00" + NAN, "the bytes hold NaN or Inf"),
        (b"\x02\x00" + ONE + b"\0", r"expected 6 bytes for shape \(4, 5\), got 7"),
        (b"\x02\x01" + 2 * ONE + bytes(2), r"expected 13 bytes for shape \(4, 5\), got 12"),
        (b"\x02\x02" + 3 * ONE + b"\xff" * 5, "expected indices of 3 levels, got 3"),
        (b"\x01\x02" + 3 * ONE, "expected coded indices, got 0 bytes"),
        (b"\x01\x02" + 3 * ONE + bytes(9), "expected frequency tables"),
    ],
)
def test_bytes_that_no_encoder_writes_are_refused(data: bytes, message: str) -> None:
    with pytest.raises(DecodeError, match=message):
        KMeans().decode(data, TensorSpec(shape=(4, 5)), CONTEXT)


def test_coded_bytes_for_more_levels_or_with_a_surplus_are_refused() -> None:
    tensor = activation(64, 64)
    data = KMeans().encode(tensor, CONTEXT)
    spec = TensorSpec(shape=tensor.shape)
    assert data[:2] == bytes((CODED, 15))
    with pytest.raises(DecodeError, match="expected nothing after the indices, got 2 bytes"):
        KMeans().decode(data + bytes(2), spec, CONTEXT)
    fewer = data[:1] + b"\x0e" + data[2:62] + data[66:]
    with pytest.raises(DecodeError, match="expected indices of 15 levels, got 15"):
        KMeans().decode(fewer, spec, CONTEXT)
    with pytest.raises(DecodeError, match="expected at most 8 levels"):
        KMeans(levels=8).decode(data, spec, CONTEXT)
