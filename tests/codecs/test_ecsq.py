from __future__ import annotations

import tracemalloc
from contextlib import suppress
from functools import partial

import numpy as np
import pytest

from slstream.codecs import rans, scale_context
from slstream.codecs.contract import CodecContext, FloatArray, TensorSpec
from slstream.codecs.ecsq import LARGEST, SMALLEST_RMS, Ecsq
from slstream.codecs.ecsq_signs import EcsqSigns
from slstream.errors import DecodeError, EncodeError
from slstream.testing.codecs import FIXED_BYTES, activation, edge_tensors, gradient

CONTEXT = CodecContext(seed=1, counter=2)
STEPS = (0.05, 0.25, 0.5, 1.0, 2.0, 16.0)


def round_trip(codec: Ecsq, tensor: FloatArray, context: CodecContext = CONTEXT) -> FloatArray:
    data = codec.encode(tensor, context)
    return codec.decode(data, TensorSpec(shape=tensor.shape), context)


def rms(tensor: FloatArray) -> float:
    return float(np.sqrt(np.mean(tensor.astype(np.float64) ** 2)))


def entropy(values: np.ndarray[tuple[int, ...], np.dtype[np.int64]]) -> float:
    """Empirical zeroth-order entropy, bits per element."""
    p = np.unique(values, return_counts=True)[1] / values.size
    return float(-(p * np.log2(p)).sum())


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize(("rounding", "bound"), [("nearest", 0.5), ("stochastic", 1.0)])
def test_errors_stay_within_the_stated_bound(step: float, rounding: str, bound: float) -> None:
    codec = Ecsq(step=step, rounding=rounding)
    for name, tensor in edge_tensors().items():
        if tensor.size == 0:
            continue
        error = np.abs(round_trip(codec, tensor).astype(np.float64) - tensor)
        absolute = step * rms(tensor)
        # An element of k steps is a float32, with a relative error of its own.
        allowed = bound * absolute + 1e-6 * np.abs(tensor.astype(np.float64))
        assert np.all(error <= allowed * (1 + 1e-6)), name


@pytest.mark.parametrize("make", [activation, gradient])
def test_stochastic_rounding_is_unbiased(make: object) -> None:
    assert callable(make)
    tensor = make(16, 24)
    codec = Ecsq(step=2.0, rounding="stochastic")
    n = 3000
    total = np.zeros(tensor.shape)
    for counter in range(n):
        total += round_trip(codec, tensor, CodecContext(seed=4, counter=counter))
    deviation = (total / n - tensor) / (2.0 * rms(tensor))
    # A step's rounding has a standard deviation of at most half a step.
    assert np.abs(deviation).max() < 6 * 0.5 / np.sqrt(n)
    assert abs(deviation.mean()) < 6 * 0.5 / np.sqrt(n * tensor.size)


def test_nearest_rounding_of_small_elements_is_biased_and_so_not_for_gradients() -> None:
    tensor = gradient(64, 64)
    small = np.abs(tensor) < 0.9 * rms(tensor)
    assert not round_trip(Ecsq(step=2.0), tensor)[small].any()


@pytest.mark.parametrize("step", [0.25, 0.5, 1.0])
@pytest.mark.parametrize("shape", [(1024, 64), (256, 256), (65536,), (32, 8, 16, 16)])
def test_the_rate_is_within_5_percent_of_the_entropy(step: float, shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(8)
    tensors = {
        "normal": rng.standard_normal(shape),
        "relu": np.maximum(rng.standard_normal(shape) + 0.5, 0),
        "laplace": rng.laplace(size=shape),
    }
    for name, values in tensors.items():
        tensor = values.astype(np.float32)
        codes = np.rint(values / (step * rms(tensor))).astype(np.int64)
        bits = 8 * len(Ecsq(step=step).encode(tensor, CONTEXT)) / tensor.size
        h0 = entropy(codes)
        assert h0 >= 1.0, name
        assert bits <= 1.05 * h0, (name, bits, h0)


def test_the_scales_of_rows_and_columns_save_more_than_a_single_table_could() -> None:
    narrow = activation(2048, 16)  # columns have classes, rows have none
    wide = gradient(16, 2048)  # the other way round
    for tensor, step in (
        (activation(512, 64), 1.0),
        (gradient(512, 64), 0.5),
        (narrow, 1.0),
        (wide, 0.5),
    ):
        codes = np.rint(tensor / (step * rms(tensor))).astype(np.int64)
        bits = 8 * len(Ecsq(step=step).encode(tensor, CONTEXT)) / tensor.size
        assert bits < 0.9 * entropy(codes)


def test_small_frames_cost_little_more_than_large_ones() -> None:
    small, large = activation(128, 64), activation(2048, 64)
    bits = [8 * len(Ecsq().encode(tensor, CONTEXT)) / tensor.size for tensor in (small, large)]
    assert bits[0] < bits[1] + 0.15


def test_outliers_beyond_the_alphabet_are_escaped() -> None:
    tensor = gradient(64, 64)
    tensor[3, 4], tensor[60, 0] = 100 * rms(tensor) * 50, -77 * rms(tensor) * 40
    decoded = round_trip(Ecsq(step=0.05), tensor)
    step = 0.05 * rms(tensor)
    assert np.abs(decoded - tensor).max() <= 0.51 * step
    assert abs(tensor[3, 4]) / step > 127


def test_a_zero_tensor_takes_one_byte() -> None:
    for tensor in (np.zeros((4, 5), np.float32), np.full((9,), -0.0, np.float32)):
        assert Ecsq().encode(tensor, CONTEXT) == b"\x02"
        assert not round_trip(Ecsq(), tensor).any()


@pytest.mark.parametrize("scale", [SMALLEST_RMS / 4, LARGEST * 2])
def test_tensors_outside_the_range_go_raw_and_stay_exact(scale: float) -> None:
    tensor = np.linspace(-1, 1, 640, dtype=np.float32).reshape(10, 64) * np.float32(scale)
    data = Ecsq().encode(tensor, CONTEXT)
    assert data[0] == 0
    assert np.array_equal(round_trip(Ecsq(), tensor), tensor)


def test_a_tensor_too_small_to_gain_goes_raw() -> None:
    tensor = np.array([[1.0, -2.0]], np.float32)
    assert Ecsq().encode(tensor, CONTEXT) == b"\0" + tensor.tobytes()


def test_noise_follows_the_context() -> None:
    tensor = gradient(64, 64)
    codec = Ecsq(rounding="stochastic")
    same = codec.encode(tensor, CodecContext(seed=1, counter=2))
    assert codec.encode(tensor, CodecContext(seed=1, counter=2)) == same
    assert codec.encode(tensor, CodecContext(seed=1, counter=3)) != same
    assert codec.encode(tensor, CodecContext(seed=2, counter=2)) != same
    nearest = Ecsq().encode(tensor, CodecContext(seed=1, counter=2))
    assert Ecsq().encode(tensor, CodecContext(seed=7, counter=9)) == nearest


def test_nan_is_refused_by_name_and_index() -> None:
    tensor = activation(3, 4)
    tensor[1, 2] = np.nan
    tensor[2, 0] = np.inf
    with pytest.raises(EncodeError) as caught:
        Ecsq().encode(tensor, CONTEXT)
    assert str(caught.value) == (
        "codec 'ecsq' refuses NaN and Inf: found nan at index (1, 2), 2 of 12 elements in all; "
        "look for a diverging loss or an overflow in the model, or send with raw32"
    )


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "expected a form byte, got 0 bytes"),
        (b"\x04", "expected form 0, 1, 2 or 3, got 4"),
        (b"\x02\x00", r"expected 1 bytes for shape \(64, 64\), got 2"),
        (b"\x00\x00", r"expected 16385 bytes for shape \(64, 64\), got 2"),
        (b"\x01\x00\x00\x00", r"expected 6 to 16384 bytes for shape \(64, 64\), got 4"),
        (b"\x01" + bytes(20000), r"expected 6 to 16384 bytes for shape \(64, 64\), got 20001"),
        (b"\x01" + np.float32(np.nan).tobytes() + bytes(40), "expected a step above 0"),
        (b"\x01" + np.float32(-1).tobytes() + bytes(40), "expected a step above 0"),
        (b"\x01" + np.float32(3e38).tobytes() + bytes(40), "expected a step above 0"),
        (b"\x01" + np.float32(1).tobytes() + bytes(10), "expected frequency tables"),
    ],
)
def test_bytes_that_no_encoder_writes_are_refused(data: bytes, message: str) -> None:
    with pytest.raises(DecodeError, match=message):
        Ecsq().decode(data, TensorSpec(shape=(64, 64)), CONTEXT)


def test_missing_and_surplus_escapes_are_refused() -> None:
    tensor = gradient(64, 64)
    tensor[3, 4] = 5000 * rms(tensor)
    data = Ecsq(step=0.05).encode(tensor, CONTEXT)
    spec = TensorSpec(shape=tensor.shape)
    for damaged in (data[:-1], data + b"\x01", data[:-1] + b"\xff"):
        with pytest.raises(DecodeError, match="expected 1 escaped values"):
            Ecsq().decode(damaged, spec, CONTEXT)
    plain = Ecsq().encode(activation(64, 64), CONTEXT)
    with pytest.raises(DecodeError, match="expected 0 escaped values"):
        Ecsq().decode(plain + b"\x01", spec, CONTEXT)


@pytest.mark.parametrize(
    "tail",
    [
        b"\xff" * 10 + b"\x01\x00",  # longer than any number
        b"\x01\x01\x80",  # the last one is cut off
        b"\x01\x01\x01\x80",  # bytes of no number behind the last one
        b"\x01\x01\xff\xff\xff\x7f",  # larger than any symbol
        b"\x01\x01\x01\x01",
    ],
)
@pytest.mark.parametrize("codec", [Ecsq(step=0.05), EcsqSigns(step=0.05)])
def test_numbers_that_no_encoder_writes_are_refused(codec: Ecsq, tail: bytes) -> None:
    tensor = gradient(64, 64)
    tensor[3, 4] = tensor[5, 6] = tensor[7, 8] = 2900 * rms(tensor)
    data, spec = codec.encode(tensor, CONTEXT), TensorSpec(shape=tensor.shape)
    for size in range(len(data) - 12, len(data) - 2):  # where the numbers begin is not told
        with suppress(DecodeError):
            codec.decode(data[:size] + b"\x01\x02\x03", spec, CONTEXT)
            break
    else:
        pytest.fail("no three numbers at the end")
    with pytest.raises(DecodeError, match=f"codec '{codec.id}': expected 3 escaped values"):
        codec.decode(data[:size] + tail, spec, CONTEXT)


@pytest.mark.parametrize("step", [2.0**104, np.nextafter(np.float32(2.0**104), np.float32(3e38))])
def test_a_step_above_the_largest_one_is_refused(step: float) -> None:
    """Multiples of it would be infinite."""
    data = bytearray(Ecsq().encode(activation(64, 64), CONTEXT))
    data[1:5] = np.float32(step).tobytes()
    if step > 2.0**104:
        with pytest.raises(DecodeError, match="expected a step above 0 and at most"):
            Ecsq().decode(bytes(data), TensorSpec(shape=(64, 64)), CONTEXT)
    else:
        decoded = Ecsq().decode(bytes(data), TensorSpec(shape=(64, 64)), CONTEXT)
        assert np.isfinite(decoded).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("masked", [False, True])
def test_raw_bytes_that_hold_nan_or_inf_are_refused(bad: float, masked: bool) -> None:
    mask = np.ones((2, 3), np.bool_) if masked else None
    for value in (1.0, bad):
        data = bytes([0]) + np.array([0, 1, 2, value, 4, 5], "<f4").tobytes()
        decode = partial(Ecsq().decode_masked, data, TensorSpec(shape=(2, 3)), mask)
        if value == 1.0:
            assert decode()[1, 0] == 1.0
        else:
            with pytest.raises(DecodeError, match="codec 'ecsq': the bytes hold NaN or Inf"):
                decode()


def test_as_many_escapes_as_a_tensor_can_have_decode() -> None:
    tensor = np.zeros((64, 64), np.float32)
    tensor.reshape(-1)[::41] = 1
    assert rms(tensor) * 127.5 * 0.05 < 1
    assert np.array_equal(round_trip(Ecsq(step=0.05), tensor) > 0, tensor > 0)


@pytest.mark.parametrize("tail", [b"", bytes(1024 * 256), bytes(4 * 1024 * 256 - 64)])
def test_more_escapes_than_any_tensor_has_are_refused_before_memory_is_taken(tail: bytes) -> None:
    frequencies = np.zeros((scale_context.ALL_CONTEXTS, rans.SYMBOLS), np.int32)
    frequencies[: scale_context.CONTEXTS, rans.ESCAPE] = rans.TOTAL
    frequencies[scale_context.CONTEXTS :, 0] = rans.TOTAL
    tables = np.zeros(4 * frequencies.size, np.uint8)
    tables = tables[: rans.write_tables(frequencies, tables)]
    states = np.full(rans.STATES, 1 << 16, "<u4")
    header = b"\x01" + np.float32(1).tobytes() + b"\x00"
    data = header + tables.tobytes() + states.tobytes() + tail
    spec = TensorSpec(shape=(1024, 256))
    tracemalloc.start()
    try:
        with pytest.raises(DecodeError, match="expected at most 8192 escaped values in 262144"):
            Ecsq().decode(data, spec, CONTEXT)
        assert tracemalloc.get_traced_memory()[1] <= 2 * spec.raw_bytes + FIXED_BYTES
    finally:
        tracemalloc.stop()
