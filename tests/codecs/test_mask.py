from __future__ import annotations

import tracemalloc
from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest

from slstream.codecs.casts import Fp16
from slstream.codecs.chain import CodecChain
from slstream.codecs.contract import CodecContext, FloatArray, TensorCodec, TensorSpec
from slstream.codecs.ecsq import LARGEST, Ecsq
from slstream.codecs.mask import Mask
from slstream.codecs.row_integers import Q8Row
from slstream.errors import CodecConfigError, DecodeError, EncodeError
from slstream.testing.codecs import FIXED_BYTES, activation, edge_tensors, gradient

ECSQ = Ecsq(step=1.5, rounding="stochastic")


def context(forward: FloatArray | None, counter: int = 0) -> CodecContext:
    return CodecContext(seed=1, counter=counter, forward=forward)


def round_trip(codec: TensorCodec, tensor: FloatArray, context: CodecContext) -> FloatArray:
    data = codec.encode(tensor, context)
    return codec.decode(data, TensorSpec(shape=tensor.shape), context)


def cut(rows: int, width: int) -> tuple[FloatArray, FloatArray]:
    """A gradient whose rows and columns differ in scale, and a decoded activation."""
    rng = np.random.default_rng(0)
    scales = np.exp(rng.standard_normal((rows, 1)) + rng.standard_normal(width) / 2)
    tensor = (1e-4 * scales * rng.standard_normal((rows, width))).astype(np.float32)
    return tensor, round_trip(Ecsq(step=0.25), activation(rows, width), context(None))


def rms(values: FloatArray) -> float:
    return float(np.sqrt(np.mean(values.astype(np.float64) ** 2)))


@pytest.mark.parametrize("values", [ECSQ, Ecsq(step=0.1), Fp16(), Q8Row(block=64)], ids=str)
def test_masked_entries_are_zero_and_the_others_those_of_the_codec_inside(
    values: TensorCodec,
) -> None:
    tensor, forward = cut(64, 80)
    left = forward != 0
    decoded = round_trip(Mask(values=values), tensor, context(forward))
    assert 0.2 < left.mean() < 0.8
    assert not decoded[~left].any()
    error = np.abs(decoded - tensor)[left]
    if isinstance(values, Ecsq):
        bound = {"nearest": 0.5, "stochastic": 1.0}[values.rounding]
        assert error.max() <= bound * values.step * rms(tensor[left]) * (1 + 1e-5)
        assert decoded[left].any()
    else:
        assert np.array_equal(decoded[left], round_trip(values, tensor[left], context(None)))


def test_entries_that_are_left_are_unbiased() -> None:
    tensor, forward = gradient(16, 24), activation(16, 24)
    left = forward != 0
    n = 2000
    total = np.zeros(tensor.shape)
    for counter in range(n):
        total += round_trip(Mask(), tensor, context(forward, counter))
    deviation = (total / n - tensor)[left] / (1.5 * rms(tensor[left]))
    assert np.abs(deviation).max() < 6 * 0.5 / np.sqrt(n)
    assert abs(deviation.mean()) < 6 * 0.5 / np.sqrt(n * left.sum())


@pytest.mark.parametrize(
    ("shape", "whole", "one_row"),
    [((128, 64), 1.2, 0.99), ((512, 64), 1.1, 0.92), ((512, 256), 1.05, 0.85)],
)
def test_the_rate_of_what_is_left_is_that_of_the_whole_because_classes_are_kept(
    shape: tuple[int, int], whole: float, one_row: float
) -> None:
    tensor, forward = cut(*shape)
    left = forward != 0
    plain = len(ECSQ.encode(tensor, context(None)))
    masked = len(Mask().encode(tensor, context(forward)))
    in_one_dimension = len(ECSQ.encode(tensor[left], context(None)))
    assert 0.4 < left.mean() < 0.5
    assert masked < whole * left.mean() * plain
    assert masked < one_row * in_one_dimension


@pytest.mark.parametrize("values", [ECSQ, Fp16(), Q8Row()], ids=str)
def test_without_zeros_the_bytes_are_those_of_the_codec_inside(values: TensorCodec) -> None:
    for tensor in edge_tensors().values():
        keeps_all = context(np.full(tensor.shape, -0.5, np.float32))
        assert Mask(values=values).encode(tensor, keeps_all) == values.encode(tensor, keeps_all)


@pytest.mark.parametrize("values", [ECSQ, Fp16(), Q8Row(block=64)], ids=str)
def test_an_activation_of_zeros_leaves_nothing(values: TensorCodec) -> None:
    tensor = gradient(40, 40)
    codec = Mask(values=values)
    nothing = context(np.zeros(tensor.shape, np.float32))
    assert len(codec.encode(tensor, nothing)) <= 5
    assert not round_trip(codec, tensor, nothing).any()
    with pytest.raises(DecodeError):
        codec.decode(codec.encode(tensor, context(tensor)), TensorSpec(shape=(40, 40)), nothing)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_diverged_entry_is_refused_even_where_it_is_masked(value: float) -> None:
    tensor = gradient(6, 7)
    tensor[4, 2] = value
    forward = np.ones((6, 7), np.float32)
    forward[4, 2] = 0
    for values in (ECSQ, Fp16()):
        with pytest.raises(EncodeError, match=rf"found {value} at index \(4, 2\), 1 of 42"):
            Mask(values=values).encode(tensor, context(forward))


def test_an_activation_that_is_not_finite_leaves_its_entry() -> None:
    tensor = gradient(40, 40)
    forward = np.zeros((40, 40), np.float32)
    forward[0] = np.nan
    for values in (ECSQ, Fp16()):
        decoded = round_trip(Mask(values=values), tensor * 1e3, context(forward))
        assert decoded[0].any()
        assert not decoded[1:].any()


def test_a_context_without_the_activation_is_refused_by_name() -> None:
    tensor, spec = gradient(40, 40), TensorSpec(shape=(40, 40))
    refused = {
        None: (
            "codec 'mask' expected the decoded activation of the same step, found none: it is for "
            "gradients only; use the codec inside it for other tensors"
        ),
        (40, 41): (
            "codec 'mask' expected an activation of the gradient's shape, float32 of (40, 40); "
            "found float32 of shape (40, 41)"
        ),
    }
    for shape, message in refused.items():
        wrong = context(None if shape is None else np.ones(shape, np.float32))
        with pytest.raises(EncodeError) as encoding:
            Mask().encode(tensor, wrong)
        with pytest.raises(DecodeError) as decoding:
            Mask().decode(b"\x02", spec, wrong)
        assert str(encoding.value) == str(decoding.value) == message


def test_another_activation_at_the_receiver_is_refused_or_decodes_to_the_shape() -> None:
    tensor, forward = cut(64, 80)
    other = np.roll(forward, 1, axis=0)
    fewer = forward * (np.arange(80, dtype=np.float32) > 5)
    for values in (ECSQ, Fp16()):
        codec = Mask(values=values)
        data = codec.encode(tensor, context(forward))
        for wrong in (other, fewer, np.ones_like(forward)):
            with suppress(DecodeError):
                decoded = codec.decode(data, TensorSpec(shape=(64, 80)), context(wrong))
                assert decoded.shape == (64, 80)
                assert not decoded[wrong == 0].any()


def test_outliers_are_escaped_in_their_places() -> None:
    tensor, forward = gradient(64, 64), activation(64, 64)
    forward[3, 4] = forward[60, 0] = 1
    forward[30, 30] = 0
    tensor[3, 4], tensor[60, 0], tensor[30, 30] = 5000, -4000, 1e6
    left = forward != 0
    decoded = round_trip(Mask(values=Ecsq(step=0.05)), tensor, context(forward))
    step = 0.05 * rms(tensor[left])
    assert abs(tensor[60, 0]) / step > 127
    assert np.abs(decoded - tensor)[left].max() <= 0.51 * step
    assert decoded[30, 30] == 0


def test_what_cannot_be_coded_goes_raw_without_the_masked_entries() -> None:
    forward = activation(10, 64)
    left = forward != 0
    huge = np.linspace(1, 2, 640, dtype=np.float32).reshape(10, 64) * np.float32(LARGEST)
    data = Mask().encode(huge, context(forward))
    assert data == b"\0" + huge[left].tobytes()
    decoded = round_trip(Mask(), huge, context(forward))
    assert np.array_equal(decoded, np.where(left, huge, 0))
    for wrong in (data[:-1], data + b"\0"):
        with pytest.raises(DecodeError, match=f"expected {len(data)} bytes"):
            Mask().decode(wrong, TensorSpec(shape=huge.shape), context(forward))


def test_no_more_bytes_are_sent_or_taken_than_what_is_left_has() -> None:
    tensor, forward = gradient(2, 64), np.zeros((2, 64), np.float32)
    forward[:, ::16] = 1
    data = Mask().encode(tensor, context(forward))
    assert data == b"\0" + tensor[forward != 0].tobytes()
    with pytest.raises(DecodeError, match=r"expected 6 to 32 bytes for shape \(2, 64\), got 33"):
        Mask().decode(b"\1" + data[1:], TensorSpec(shape=(2, 64)), context(forward))


@pytest.mark.parametrize("shape", [(4, 5, 6), (48, 3, 4, 5), (100,), (0, 64), (3, 0), (1, 64)])
@pytest.mark.parametrize("values", [ECSQ, Fp16()], ids=str)
def test_every_shape_keeps_its_places(shape: tuple[int, ...], values: TensorCodec) -> None:
    rng = np.random.default_rng(2)
    tensor = rng.standard_normal(shape).astype(np.float32)
    forward = np.maximum(rng.standard_normal(shape), 0).astype(np.float32)
    decoded = round_trip(Mask(values=values), tensor, context(forward))
    assert decoded.shape == shape
    assert not decoded[forward == 0].any()
    assert np.all(np.abs(decoded - tensor)[forward != 0] <= 1.5 * 1.5)


@pytest.mark.parametrize("values", [ECSQ, Fp16()], ids=str)
def test_a_large_tensor_of_which_little_is_masked_takes_at_most_twice_its_memory(
    values: TensorCodec,
) -> None:
    tensor = gradient(2048, 512)
    forward = np.ones(tensor.shape, np.float32)
    forward.reshape(-1)[::41] = 0
    forward[1990:] = 0
    data = Mask(values=values).encode(tensor, context(forward))
    tracemalloc.start()
    try:
        decoded = Mask(values=values).decode(data, TensorSpec(shape=(2048, 512)), context(forward))
        assert tracemalloc.get_traced_memory()[1] <= 2 * tensor.nbytes + FIXED_BYTES
    finally:
        tracemalloc.stop()
    error = np.abs(decoded - np.where(forward == 0, 0, tensor))
    assert np.all(error <= 1.51 * rms(tensor) + 1e-3 * np.abs(tensor))


def test_noise_follows_the_context() -> None:
    tensor, forward = cut(64, 64)
    same = Mask().encode(tensor, context(forward))
    assert Mask().encode(tensor, context(forward)) == same
    assert Mask().encode(tensor, context(forward, counter=1)) != same
    assert Mask().encode(tensor, replace(context(forward), seed=2)) != same


def test_the_default_is_the_codec_of_gradients() -> None:
    codec = Mask.from_config({"id": "mask"})
    assert codec.values == ECSQ
    assert codec.config() == {"id": "mask", "values": ECSQ.config()}
    assert str(codec) == "mask"
    assert str(Mask(values=Fp16())) == "mask(values=fp16)"


def test_a_chain_tells_that_it_needs_the_activation() -> None:
    assert CodecChain.from_config([{"id": "mask"}, {"id": "lz4"}]).needs_forward
    assert not CodecChain.from_config([{"id": "ecsq"}]).needs_forward


def test_a_mask_inside_another_codec_is_refused() -> None:
    with pytest.raises(CodecConfigError, match="values of codec 'mask' must be a codec without"):
        Mask.from_config({"id": "mask", "values": {"id": "mask"}})
