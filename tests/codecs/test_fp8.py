from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch

from slstream.codecs.contract import CodecContext, FloatArray, TensorSpec
from slstream.codecs.fp8 import Fp8
from slstream.errors import CodecConfigError, DecodeError, EncodeError
from slstream.testing.codecs import activation, edge_tensors, gradient

CONTEXT = CodecContext(seed=1, counter=2)
TYPES = {"e4m3": torch.float8_e4m3fn, "e5m2": torch.float8_e5m2}
TOPS = {"e4m3": 7, "e5m2": 14}
"""Exponent of a row's largest element in the format's own numbers."""

MANTISSA = {"e4m3": 3, "e5m2": 2}
NORMAL = {"e4m3": 2.0**-13, "e5m2": 2.0**-28}
"""The smallest normal number, in units of the row's power of two."""


def round_trip(codec: Fp8, tensor: FloatArray, context: CodecContext = CONTEXT) -> FloatArray:
    data = codec.encode(tensor, context)
    return codec.decode(data, TensorSpec(shape=tensor.shape), context)


def row_powers(tensor: FloatArray) -> npt.NDArray[np.float64]:
    """The power of two at or below each row's largest element, to be broadcast: [rows, 1, ...]."""
    rows = tensor if tensor.ndim > 1 else tensor[None]
    axes = tuple(range(1, rows.ndim))
    largest = np.abs(rows.astype(np.float64)).max(axis=axes, keepdims=True)
    powers = 2.0 ** np.floor(np.log2(np.maximum(largest, 1e-300)))
    return np.where(largest < 2.0**-95, 0.0, powers)


def all_binades(seed: int = 0) -> FloatArray:
    """Random mantissas over 40 binades, both signs, a row for every scale of float32 that counts.

    Every row holds midpoints between 8-bit floats as well, which ties to even decide.
    """
    rng = np.random.default_rng(seed)
    scales = np.arange(-94, 118)[:, None]
    mantissas = 1 + rng.integers(0, 1 << 23, (scales.size, 400)) * 2.0**-23
    mantissas[:, ::2] = 1 + rng.integers(0, 32, (scales.size, 200)) / 32
    binades = np.maximum(scales - rng.integers(0, 40, mantissas.shape), -120)
    signs = rng.choice([-1.0, 1.0], mantissas.shape)
    values: FloatArray = (signs * mantissas * 2.0**binades).astype(np.float32)
    return values


def test_codes_and_values_are_those_of_torch() -> None:
    tensor = all_binades()
    for name, dtype in TYPES.items():
        data = Fp8(format=name).encode(tensor, CONTEXT)
        rows = tensor.shape[0]
        exponents = np.frombuffer(data, np.uint8, rows, 1).astype(np.int64) - 127
        codes = np.frombuffer(data, np.uint8, offset=1 + rows).reshape(tensor.shape)
        # Powers of two of any size need float64, and torch rounds that to float32 without a loss.
        factors = 2.0 ** (TOPS[name] - exponents)[:, None]
        theirs = torch.from_numpy((tensor * factors).astype(np.float32)).to(dtype)
        assert np.array_equal(codes, theirs.view(torch.uint8).numpy())
        decoded = round_trip(Fp8(format=name), tensor)
        assert np.array_equal(decoded, theirs.to(torch.float32).numpy() / factors)


@pytest.mark.parametrize("name", TYPES)
def test_every_code_decodes_to_torchs_number_or_is_refused(name: str) -> None:
    codes = np.arange(256, dtype=np.uint8)
    numbers = torch.from_numpy(codes).view(TYPES[name]).to(torch.float32).numpy()
    for code, number in zip(codes, numbers, strict=True):
        data = bytes([1, 127 + TOPS[name], code])
        if np.isfinite(number):
            decoded = Fp8(format=name).decode(data, TensorSpec(shape=(1, 1)), CONTEXT)
            assert decoded.tobytes() == number.tobytes()
        else:
            with pytest.raises(DecodeError, match="the bytes hold NaN or Inf"):
                Fp8(format=name).decode(data, TensorSpec(shape=(1, 1)), CONTEXT)


@pytest.mark.parametrize("name", TYPES)
@pytest.mark.parametrize(("rounding", "times"), [("nearest", 1.0), ("stochastic", 2.0)])
def test_errors_stay_within_the_stated_bound(name: str, rounding: str, times: float) -> None:
    relative = times * 2.0 ** -(MANTISSA[name] + 1)
    for label, tensor in {**edge_tensors(), "all binades": all_binades()}.items():
        if tensor.size == 0:
            continue
        exact = tensor.astype(np.float64)
        error = np.abs(round_trip(Fp8(format=name, rounding=rounding), tensor) - exact)
        powers = row_powers(tensor)
        normal = np.abs(exact) >= NORMAL[name] * powers
        allowed = np.where(normal, relative * np.abs(exact), relative * NORMAL[name] * powers)
        allowed = np.where(powers > 0, allowed, 2.0**-95)
        assert np.all(error <= allowed), label


@pytest.mark.parametrize("name", TYPES)
def test_stochastic_rounding_is_unbiased(name: str) -> None:
    rng = np.random.default_rng(5)
    tensor = np.concatenate([gradient(16, 24), activation(16, 24)], axis=1)
    # Elements far below the smallest number: they may round up too, with a small probability.
    tensor[:, ::4] *= np.exp2(-rng.integers(8, 32, (16, 12))).astype(np.float32)
    n = 4000
    total = np.zeros(tensor.shape)
    codec = Fp8(format=name, rounding="stochastic")
    for counter in range(n):
        total += round_trip(codec, tensor, CodecContext(seed=4, counter=counter))
    binades = 2.0 ** np.floor(np.log2(np.maximum(np.abs(tensor.astype(np.float64)), 1e-300)))
    gaps = np.maximum(binades, NORMAL[name] * row_powers(tensor)) * 2.0 ** -MANTISSA[name]
    deviation = (total / n - tensor) / gaps
    assert np.abs(deviation).max() < 6 * 0.5 / np.sqrt(n) + 2.0**-16
    assert abs(deviation.mean()) < 6 * 0.5 / np.sqrt(n * tensor.size) + 2.0**-16


def test_tiny_rows_beside_large_ones_keep_their_precision() -> None:
    rng = np.random.default_rng(3)
    tensor = rng.standard_normal((40, 64)).astype(np.float32)
    tensor /= np.linalg.norm(tensor, axis=1, keepdims=True)
    tensor[::2] *= np.float32(1e-8)
    for name, floor in (("e4m3", 29.0), ("e5m2", 23.0)):
        decoded = round_trip(Fp8(format=name), tensor).astype(np.float64)
        noise = np.sum((decoded - tensor) ** 2, axis=1)
        snr_db = -10 * np.log10(noise / np.sum(tensor.astype(np.float64) ** 2, axis=1))
        assert snr_db.min() > floor


def test_the_largest_of_a_row_is_never_cut_off() -> None:
    # A mantissa of all ones rounds up to the next power of two, whatever the scale.
    largest = np.nextafter(np.float32(2) ** np.arange(-90, 120, dtype=np.float32), np.float32(0))
    rows = np.stack([largest, largest / 4], axis=1)
    for name in TYPES:
        for rounding in ("nearest", "stochastic"):
            decoded = round_trip(Fp8(format=name, rounding=rounding), rows)
            assert np.all(np.abs(decoded[:, 0] / largest - 1) <= 2.0**-20)


def test_zeros_and_signs_survive() -> None:
    tensor = gradient(32, 40)
    tensor[::3] = 0
    tensor[:, ::5] = 0
    for name in TYPES:
        for rounding in ("nearest", "stochastic"):
            decoded = round_trip(Fp8(format=name, rounding=rounding), tensor)
            assert not decoded[tensor == 0].any()
            assert np.array_equal(np.signbit(decoded), np.signbit(tensor))


@pytest.mark.parametrize(
    ("shape", "size"),
    [
        ((10, 64), 1 + 10 * 65),
        ((10, 4, 4, 4), 1 + 10 * 65),
        ((100,), 1 + 1 + 100),
        ((40, 1), 1 + 40 * 2),
        ((0, 8), 1),
    ],
)
def test_the_length_follows_from_the_shape(shape: tuple[int, ...], size: int) -> None:
    assert len(Fp8().encode(np.ones(shape, np.float32), CONTEXT)) == size


def test_huge_tensors_go_raw_and_stay_exact() -> None:
    tensor = np.array([[2.0**120] * 40, [-1.0] * 40], np.float32)
    assert Fp8().encode(tensor, CONTEXT)[0] == 0
    assert np.array_equal(round_trip(Fp8(), tensor), tensor)
    below = np.nextafter(tensor, np.float32(0))
    assert Fp8().encode(below, CONTEXT)[0] == 1


def test_noise_follows_the_context() -> None:
    tensor = gradient(64, 64)
    codec = Fp8(rounding="stochastic")
    same = codec.encode(tensor, CodecContext(seed=1, counter=2))
    assert codec.encode(tensor, CodecContext(seed=1, counter=2)) == same
    assert codec.encode(tensor, CodecContext(seed=1, counter=3)) != same
    nearest = Fp8().encode(tensor, CodecContext(seed=1, counter=2))
    assert Fp8().encode(tensor, CodecContext(seed=7, counter=9)) == nearest


def test_nan_is_refused_by_name_and_index() -> None:
    tensor = activation(3, 4)
    tensor[1, 2] = np.nan
    tensor[2, 0] = -np.inf
    with pytest.raises(EncodeError) as caught:
        Fp8().encode(tensor, CONTEXT)
    assert str(caught.value) == (
        "codec 'fp8' refuses NaN and Inf: found nan at index (1, 2), 2 of 12 elements in all; "
        "look for a diverging loss or an overflow in the model, or send with raw32"
    )


def test_parameters_out_of_range_are_refused() -> None:
    with pytest.raises(CodecConfigError) as caught:
        Fp8(format="e4m4")
    assert str(caught.value) == (
        "format of codec 'fp8' must be one of e4m3, e5m2; got 'e4m4'; did you mean 'e4m3'?"
    )
    with pytest.raises(CodecConfigError, match="rounding of codec 'fp8' must be one of nearest"):
        Fp8(rounding="up")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\x02" + bytes(4), "expected form 0 or 1, got 2"),
        (b"\x01" + bytes(2), r"expected 4 bytes for shape \(1, 2\), got 3"),
        (b"\x01" + bytes(4), r"expected 4 bytes for shape \(1, 2\), got 5"),
        (b"\x01\x1f\x00\x00", "exponent is neither 0 nor from 32 to 246"),
        (b"\x01\xf7\x00\x00", "exponent is neither 0 nor from 32 to 246"),
        (b"\x01\x00\x00\x7f", "the bytes hold NaN or Inf"),
        (b"\x01\x7f\xff\x00", "the bytes hold NaN or Inf"),
    ],
)
def test_bytes_that_no_encoder_writes_are_refused(data: bytes, message: str) -> None:
    with pytest.raises(DecodeError, match=message):
        Fp8().decode(data, TensorSpec(shape=(1, 2)), CONTEXT)
