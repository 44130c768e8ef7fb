from __future__ import annotations

import numpy as np
import pytest

from slstream.codecs.casts import Bf16, Fp16
from slstream.codecs.contract import CodecContext, FloatArray, TensorCodec, TensorSpec
from slstream.errors import DecodeError
from slstream.testing.codecs import edge_tensors, gradient

CONTEXT = CodecContext()
LARGEST = np.float32(np.finfo(np.float32).max)


def round_trip(codec: TensorCodec, tensor: FloatArray) -> FloatArray:
    data = codec.encode(tensor, CONTEXT)
    return codec.decode(data, TensorSpec(shape=tensor.shape), CONTEXT)


def all_exponents() -> FloatArray:
    """Random mantissas of every exponent of float32, both signs, subnormals included."""
    rng = np.random.default_rng(0)
    bits = rng.integers(0, 0x7F800000, 20000, np.uint32) | (
        rng.integers(0, 2, 20000, np.uint32) << np.uint32(31)
    )
    floats: FloatArray = bits.view(np.float32)
    return floats


def test_fp16_is_numpys_half_of_the_scaled_tensor() -> None:
    tensor = gradient(200, 64)
    data = Fp16().encode(tensor, CONTEXT)
    exponent = np.frombuffer(data, np.int8, 1, 1)[0]
    halves = np.frombuffer(data, "<f2", offset=2).reshape(tensor.shape)
    scaled = tensor * np.float32(2.0**exponent)
    assert 2**14 <= np.abs(scaled).max() <= 2**15
    normal = np.abs(scaled) >= 2.0**-14
    assert np.array_equal(halves[normal], scaled[normal].astype(np.float16))
    assert not halves[~normal].any()


def test_fp16_keeps_tiny_gradients_and_huge_values() -> None:
    for scale in (1e-24, 1e-12, 1.0, 1e38):
        tensor = gradient(50, 60) * np.float32(scale)
        error = np.abs(round_trip(Fp16(), tensor).astype(np.float64) - tensor)
        allowed = np.maximum(2.0**-11 * np.abs(tensor.astype(np.float64)), 2.0**-28 * tensor.max())
        assert np.all(error <= allowed)


def test_errors_stay_within_the_stated_bound() -> None:
    for name, tensor in {**edge_tensors(), "all exponents": all_exponents()}.items():
        exact = tensor.astype(np.float64)
        largest = np.abs(exact).max(initial=0.0)
        error = np.abs(round_trip(Fp16(), tensor) - exact)
        if largest >= 2.0**-98:
            assert np.all(error <= np.maximum(2.0**-11 * np.abs(exact), 2.0**-28 * largest)), name
        error = np.abs(round_trip(Bf16(), tensor) - exact)
        bound = 2.0**-8 if largest < 3.38e38 else 2.0**-7
        assert np.all(error <= np.maximum(bound * np.abs(exact), 2.0**-133)), name


def test_bf16_rounds_to_nearest_even() -> None:
    tensor = np.array(
        [1.0, 1 + 2.0**-8, 1 + 3 * 2.0**-8, -1 - 2.0**-9, 1 + 2.0**-8 + 2.0**-20, -0.0],
        np.float32,
    )
    expected = [1.0, 1.0, 1 + 2.0**-6, -1.0, 1 + 2.0**-7, -0.0]
    decoded = round_trip(Bf16(), tensor)
    assert decoded.tolist() == expected
    assert np.signbit(decoded[-1])


@pytest.mark.parametrize("codec", [Fp16(), Bf16()])
def test_the_largest_floats_stay_finite(codec: TensorCodec) -> None:
    tensor = np.array([[LARGEST, -LARGEST, np.float32(3.3e38)]], np.float32)
    decoded = round_trip(codec, tensor)
    assert np.all(np.isfinite(decoded))
    assert np.all(np.sign(decoded) == np.sign(tensor))


@pytest.mark.parametrize(
    ("codec", "data", "message"),
    [
        (Fp16(), b"\x01\x00" + b"\x00\x7c\x00\x00", "the bytes hold NaN or Inf"),
        (Fp16(), b"\x01\x00" + b"\x01\xfc\x00\x00", "the bytes hold NaN or Inf"),
        (Fp16(), b"\x01\x7f" + bytes(4), "expected an exponent from -113 to 112, got 127"),
        (Fp16(), b"\x01\x00\x00", r"expected 6 bytes for shape \(1, 2\), got 3"),
        (Fp16(), b"\x02" + bytes(5), "expected form 0 or 1, got 2"),
        (Bf16(), b"\x01" + b"\x80\x7f\x00\x00", "the bytes hold NaN or Inf"),
        (Bf16(), b"\x01" + b"\x00\x00\xc1\xff", "the bytes hold NaN or Inf"),
        (Bf16(), b"\x01", r"expected 5 bytes for shape \(1, 2\), got 1"),
        (Bf16(), b"", "expected a form byte, got 0 bytes"),
    ],
)
def test_bytes_that_no_encoder_writes_are_refused(
    codec: TensorCodec, data: bytes, message: str
) -> None:
    with pytest.raises(DecodeError, match=message):
        codec.decode(data, TensorSpec(shape=(1, 2)), CONTEXT)


@pytest.mark.parametrize("codec", [Fp16(), Bf16()])
def test_half_the_bytes(codec: TensorCodec) -> None:
    tensor = gradient(64, 64)
    assert len(codec.encode(tensor, CONTEXT)) <= tensor.nbytes // 2 + 2
