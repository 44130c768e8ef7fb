from __future__ import annotations

import numpy as np
import pytest

from slstream.codecs import quantiser
from slstream.codecs.contract import CodecContext, FloatArray
from slstream.testing.codecs import gradient


def noise(context: CodecContext, size: int, first: int = 0) -> FloatArray:
    out = np.empty(size, np.float32)
    quantiser.fill_noise(out, first, *quantiser.noise_keys(context))
    return out


def reference_noise(seed: int, counter: int, index: int) -> int:
    """The 16 bits of one element, written from the description, in Python's integers."""

    def split_mix(x: int) -> int:
        x = (x + 0x9E3779B97F4A7C15) % 2**64
        x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 % 2**64
        x = (x ^ x >> 27) * 0x94D049BB133111EB % 2**64
        return x ^ x >> 31

    key = split_mix(split_mix(seed) ^ counter)
    x = (index + key) % 2**32
    x = (x ^ x >> 16) * 0x7FEB352D % 2**32
    x = (x + (key >> 32)) % 2**32
    x = (x ^ x >> 15) * 0x846CA68B % 2**32
    return x >> 16


def test_noise_is_fixed_for_ever() -> None:
    largest = 2**64 - 1
    for seed, counter in ((0, 0), (1, 2), (largest, largest), (1 << 40, 3)):
        values = noise(CodecContext(seed=seed, counter=counter), 300) * 65536
        assert values.tolist() == [reference_noise(seed, counter, i) for i in range(300)]
    assert reference_noise(1, 2, 0) == 39979


def test_noise_of_an_element_depends_on_its_index_only() -> None:
    context = CodecContext(seed=9, counter=1)
    whole = noise(context, 1000)
    assert np.array_equal(whole[137:700], noise(context, 563, first=137))


def test_noise_is_uniform_and_uncorrelated() -> None:
    values = noise(CodecContext(seed=3, counter=4), 1 << 18)
    assert values.min() >= 0.0
    assert values.max() <= 1 - 2.0**-16
    # Six standard errors of each statistic.
    assert abs(values.mean() - 0.5) < 6 * np.sqrt(1 / 12 / values.size)
    assert abs(values.var() - 1 / 12) < 6 * np.sqrt(1 / 180 / values.size)
    counts = np.histogram(values, 256, (0, 1))[0]
    chi_squared = ((counts - 1024.0) ** 2 / 1024).sum()
    assert abs(chi_squared - 255) < 6 * np.sqrt(2 * 255)
    for lag in (1, 2, 64, 256):
        assert abs(np.corrcoef(values[:-lag], values[lag:])[0, 1]) < 6 / np.sqrt(values.size)


@pytest.mark.parametrize(
    "other",
    [
        CodecContext(seed=3, counter=5),
        CodecContext(seed=4, counter=4),
        CodecContext(seed=4, counter=3),
        CodecContext(seed=3 + (1 << 63), counter=4),
    ],
)
def test_noise_of_other_contexts_is_unrelated(other: CodecContext) -> None:
    size = 1 << 16
    a, b = noise(CodecContext(seed=3, counter=4), size), noise(other, size)
    for shift in (0, 1, 100):
        assert abs(np.corrcoef(a[: size - shift], b[shift:])[0, 1]) < 6 / np.sqrt(size - shift)


@pytest.mark.parametrize(
    ("values", "negative"),
    [([0.0, 2.5], 0), ([-0.0, 1.0], 0), ([1.0, -1e-45], 1), ([-3e38, 0.0], 1), ([], 0)],
)
def test_row_maxima_see_magnitudes_and_signs(values: list[float], negative: int) -> None:
    x = np.array(values, np.float32)
    maxima = np.zeros(1, np.int32)
    assert quantiser.row_maxima(x.view(np.int32), max(x.size, 1), maxima) == negative
    assert maxima.view(np.float32)[0] == np.abs(x).max(initial=0)


def test_row_maxima_see_nan_and_inf_as_not_finite() -> None:
    for value in (np.nan, -np.nan, np.inf, -np.inf):
        x = np.array([1.0, value, 2.0], np.float32)
        maxima = np.zeros(1, np.int32)
        quantiser.row_maxima(x.view(np.int32), 3, maxima)
        assert maxima[0] >= quantiser.INFINITE


@pytest.mark.parametrize("size", [0, 1, 511, 512, 513, 5000])
def test_sum_of_squares_is_that_of_numpy(size: int) -> None:
    x = gradient(1, size)[0]
    expected = float(np.sum(x.astype(np.float64) ** 2))
    assert quantiser.sum_of_squares(x) == pytest.approx(expected, rel=1e-12)
    assert quantiser.sum_of_squares(np.full(100, 3e38, np.float32)) == pytest.approx(9e78, rel=1e-6)


def test_largest_magnitude_and_sum_of_squares() -> None:
    for values in ([], [0.0, -0.0], [1.5, -2.5, 2.0], [-3e38, 1e-45]):
        x = np.array(values, np.float32)
        largest, squares = quantiser.magnitudes(x, x.view(np.int32))
        assert largest == np.abs(x).max(initial=0)
        assert squares == np.sum(x.astype(np.float64) ** 2)
    for value in (np.nan, -np.nan, np.inf, -np.inf):
        x = np.array([1.0, value, 3e38], np.float32)
        assert not np.isfinite(quantiser.magnitudes(x, x.view(np.int32))[0])


@pytest.mark.parametrize("size", [1, 4095, 4096, 4097, 9000])
@pytest.mark.parametrize("stochastic", [False, True])
def test_steps_are_rounded_as_numpy_rounds(size: int, stochastic: bool) -> None:
    x = np.linspace(-140, 140, size, dtype=np.float32)
    symbols = np.empty(size, np.uint8)
    keys = quantiser.noise_keys(CodecContext(seed=5))
    quantiser.quantise_step(x, 1.0, stochastic, *keys, symbols)
    shift = noise(CodecContext(seed=5), size) if stochastic else np.float32(0.5)
    k = np.floor(x + shift).astype(np.int64)
    zigzag = (k << 1) ^ (k >> 63)
    assert np.array_equal(symbols, np.minimum(zigzag, 255))

    where = np.flatnonzero(symbols == 255)
    values = np.empty(where.size, np.int64)
    quantiser.quantise_at(x, 1.0, stochastic, *keys, where, values)
    assert np.array_equal(values, k[where])

    out = np.empty(size, np.float32)
    quantiser.dequantise_step(symbols, 0.5, out)
    inside = symbols < 255
    assert np.array_equal(out[inside], k[inside].astype(np.float32) / 2)


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("width", [1, 2, 7, 8, 33, 64])
def test_codes_are_packed_in_planes(bits: int, width: int) -> None:
    top = (1 << bits) - 1
    size = 5 * width - (width // 3)  # the last row is short
    codes = np.random.default_rng(1).integers(0, top + 1, size)
    planes = 8 // bits
    stride = -(-width // planes)
    packed = np.full(5 * stride, 255, np.uint8)
    x = codes.astype(np.float32)
    quantiser.quantise_rows(x, width, np.ones(5, np.float32), bits, 0, top, False, 1, 2, packed)
    expected = np.zeros((5, planes * stride), np.uint8)
    for r in range(5):
        row = codes[r * width : (r + 1) * width]
        expected[r, : row.size] = row
    shifts = (np.arange(planes, dtype=np.uint8) * bits)[:, None]
    joined = np.bitwise_or.reduce(expected.reshape(5, planes, stride) << shifts, axis=1)
    assert np.array_equal(packed.reshape(5, stride), joined)

    back = np.empty(size, np.float32)
    quantiser.dequantise_rows(packed, width, np.full(5, 2.0, np.float32), bits, 1, back)
    assert np.array_equal(back, (codes - 1) * np.float32(2))
