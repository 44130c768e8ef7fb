from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slstream.codecs import quantiser
from slstream.codecs.contract import CodecContext, FloatArray, TensorSpec
from slstream.codecs.kept_elements import (
    Groups,
    exchange,
    gather,
    inner_context,
    sample,
    scatter,
    select_largest,
    selection_keys,
)
from slstream.testing.codecs import activation, edge_tensors, gradient

ByteArray = npt.NDArray[np.uint8]


def largest(tensor: FloatArray, width: int, kept: int) -> ByteArray:
    mask = np.full(tensor.size, 9, np.uint8)
    select_largest(np.ascontiguousarray(tensor).reshape(-1).view(np.int32), width, kept, mask)
    return mask


def largest_by_sorting(tensor: FloatArray, width: int, kept: int) -> ByteArray:
    """A stable sort puts the first of equal elements first."""
    magnitudes = np.abs(tensor.astype(np.float64)).reshape(-1, width)
    mask = np.zeros(magnitudes.shape, np.uint8)
    order = np.argsort(-magnitudes, axis=1, kind="stable")[:, :kept]
    np.put_along_axis(mask, order, 1, axis=1)
    return mask.reshape(-1)


def sampled(
    count: int, width: int, kept: int, counter: int = 0, seed: int = 3
) -> npt.NDArray[np.bool_]:
    bitmap = np.zeros(-(-count * width // 8), np.uint8)
    keys = selection_keys(CodecContext(seed=seed, counter=counter))
    sample(bitmap, count, width, kept, *keys)
    return np.unpackbits(bitmap, count=count * width).reshape(count, width).astype(np.bool_)


@pytest.mark.parametrize(
    ("fraction", "width", "kept"),
    [
        (0.1, 30, 3),  # 4 in floating point
        (0.07, 100, 7),  # 8 in floating point
        (0.1, 31, 4),
        (0.001, 5, 1),
        (0.5, 1, 1),
        (0.5, 7, 4),
        (0.96, 100, 96),
        (0.97, 100, 100),  # less than 1 in 32 would be left out
        (1.0, 64, 64),
    ],
)
def test_the_number_kept_is_the_fraction_in_exact_decimals(
    fraction: float, width: int, kept: int
) -> None:
    groups = Groups.of(TensorSpec(shape=(3, width)), fraction, per_row=True)
    assert (groups.count, groups.width, groups.kept) == (3, width, kept)
    assert groups.all_kept == (kept == width)


@pytest.mark.parametrize(
    ("shape", "per_row", "count", "values"),
    [
        ((6, 10), True, 6, (6, 5)),
        ((6, 10), False, 1, (30,)),
        ((60,), True, 1, (30,)),
        ((60,), False, 1, (30,)),
        ((6, 2, 5), True, 6, (6, 5)),
        ((2, 3, 2, 5), False, 1, (30,)),
    ],
)
def test_rows_are_the_batch_dimension(
    shape: tuple[int, ...], per_row: bool, count: int, values: tuple[int, ...]
) -> None:
    groups = Groups.of(TensorSpec(shape=shape), 0.5, per_row=per_row)
    assert (groups.count, groups.elements, groups.values.shape) == (count, 60, values)


def test_selects_the_largest_of_each_group_as_a_sort_does() -> None:
    for name, tensor in edge_tensors().items():
        if tensor.size == 0:
            continue
        for width in {tensor.size, tensor[0].size}:
            for kept in {1, -(-width // 10), -(-width // 2), width}:
                expected = largest_by_sorting(tensor, width, kept)
                assert np.array_equal(largest(tensor, width, kept), expected), (name, width, kept)


def test_of_equal_elements_the_first_are_kept() -> None:
    tensor = np.array([[1, -2, 2, 0, 2, -2], [0, 0, -0.0, 0, 0, 3]], np.float32)
    assert largest(tensor, 6, 3).reshape(2, 6).tolist() == [[0, 1, 1, 0, 1, 0], [1, 1, 0, 0, 0, 1]]


@settings(max_examples=150, deadline=None)
@given(
    values=st.lists(st.sampled_from([0.0, -0.0, 1e-44, 1.0, -1.0, 1.0000001, 3e38]), min_size=1),
    share=st.floats(0, 1),
)
def test_selects_as_a_sort_does_whatever_is_equal(values: list[float], share: float) -> None:
    tensor = np.array(values, np.float32)
    kept = max(1, round(share * tensor.size))
    assert np.array_equal(
        largest(tensor, tensor.size, kept), largest_by_sorting(tensor, tensor.size, kept)
    )


@pytest.mark.parametrize("width", [8192, 8193, 50_000])
def test_wide_groups_are_selected_exactly_wherever_the_large_elements_are(width: int) -> None:
    rng = np.random.default_rng(width)
    plain = rng.standard_normal((2, width)).astype(np.float32)
    periodic = plain.copy()
    periodic[:, ::64] *= 1000  # what a sampled threshold with a stride of 64 sees
    halves = plain.copy()
    halves[:, ::2] = 0
    rounded = np.rint(plain * 2).astype(np.float32)
    for tensor in (plain, periodic, halves, rounded, np.full_like(plain, -7.0)):
        for kept in (1, width // 100, width // 10, width // 2, width - 1):
            expected = largest_by_sorting(tensor, width, kept)
            assert np.array_equal(largest(tensor, width, kept), expected)


@pytest.mark.parametrize(("count", "width", "kept"), [(50, 64, 7), (1, 9000, 900), (33, 5, 5)])
def test_a_sample_has_the_same_number_of_each_group(count: int, width: int, kept: int) -> None:
    assert np.all(sampled(count, width, kept).sum(axis=1) == kept)


def test_every_element_and_every_pair_is_sampled_equally_often() -> None:
    width, kept, n = 6, 2, 30_000
    masks = sampled(n, width, kept).astype(np.float64)
    sigma = np.sqrt(kept / width * (1 - kept / width) / n)
    assert np.abs(masks.mean(axis=0) - kept / width).max() < 5 * sigma
    together = masks.T @ masks / n
    pair = kept * (kept - 1) / (width * (width - 1))
    off = together[~np.eye(width, dtype=bool)]
    assert np.abs(off - pair).max() < 5 * np.sqrt(pair * (1 - pair) / n)


def test_samples_of_different_contexts_are_unrelated() -> None:
    first = sampled(200, 100, 50, counter=1)
    assert np.array_equal(first, sampled(200, 100, 50, counter=1))
    for other in (sampled(200, 100, 50, counter=2), sampled(200, 100, 50, counter=1, seed=4)):
        shared = np.mean(first & other)
        assert abs(shared - 0.25) < 5 * np.sqrt(0.25 * 0.75 / first.size)


def test_what_is_kept_is_independent_of_how_it_is_rounded() -> None:
    context = CodecContext(seed=5, counter=9)
    assert set(selection_keys(context)) & set(quantiser.noise_keys(context)) == set()
    noise = np.empty(40_000, np.float32)
    quantiser.fill_noise(noise, 0, *quantiser.noise_keys(context))
    bitmap = np.zeros(5000, np.uint8)
    sample(bitmap, 400, 100, 10, *selection_keys(context))
    kept = noise[np.unpackbits(bitmap).astype(np.bool_)]
    assert abs(kept.mean() - 0.5) < 5 / np.sqrt(12 * kept.size)


def exchanged(mask: ByteArray, width: int, kept: int, alpha: float, counter: int = 0) -> ByteArray:
    out = mask.copy()
    keys = selection_keys(CodecContext(seed=3, counter=counter))
    exchange(out, width, kept, round(alpha * 2**32), *keys)
    return out


def test_an_exchange_keeps_the_number_of_each_group() -> None:
    mask = largest(activation(50, 40), 40, 8)
    for alpha in (0.0, 0.1, 0.7, 1.0):
        after = exchanged(mask, 40, 8, alpha)
        assert set(np.unique(after)) <= {0, 1}
        assert np.all(after.reshape(50, 40).sum(axis=1) == 8)
    assert np.array_equal(exchanged(mask, 40, 8, 0.0), mask)
    assert not np.any(exchanged(mask, 40, 8, 1.0) & mask)


def test_an_exchange_gives_up_alpha_and_draws_the_rest_evenly() -> None:
    n, width, kept, alpha = 20_000, 10, 4, 0.2
    mask = np.tile(np.array([0, 1, 0, 0, 1, 1, 0, 0, 1, 0], np.uint8), n)
    share = exchanged(mask, width, kept, alpha).reshape(n, width).mean(axis=0)
    inside = mask[:width] == 1
    sigma = 0.5 / np.sqrt(n)
    assert np.abs(share[inside] - (1 - alpha)).max() < 5 * sigma
    assert np.abs(share[~inside] - alpha * kept / (width - kept)).max() < 5 * sigma


def test_no_more_is_given_up_than_there_are_others() -> None:
    mask = np.array([1, 1, 1, 1, 1, 0], np.uint8)
    after = exchanged(mask, 6, 5, 1.0)
    assert after.sum() == 5
    assert after[5] == 1


@pytest.mark.parametrize("make", [activation, gradient])
def test_gather_and_scatter_undo_each_other(make: object) -> None:
    assert callable(make)
    tensor = make(37, 41)
    mask = largest(tensor, 41, 9)
    values = np.empty(37 * 9 + 1, np.float32)
    gather(tensor.reshape(-1), mask, values)
    assert np.array_equal(values[:-1], tensor.reshape(-1)[mask == 1])
    out = np.full(tensor.size, np.nan, np.float32)
    scatter(values[:-1], np.packbits(mask), 2.0, out)
    assert np.array_equal(out, np.where(mask == 1, 2 * tensor.reshape(-1), 0))


def test_scatter_stays_inside_values_that_are_too_few() -> None:
    out = np.empty(5, np.float32)
    scatter(np.array([3.0], np.float32), np.array([0xFF], np.uint8), 1.0, out)
    assert out.tolist() == [3.0] * 5
    scatter(np.empty(0, np.float32), np.array([0xFF], np.uint8), 1.0, out)
    assert not out.any()


def test_a_codec_inside_sees_no_activation_of_another_shape() -> None:
    forward = np.zeros((2, 2), np.float32)
    inner = inner_context(CodecContext(seed=4, counter=5, forward=forward))
    assert (inner.seed, inner.counter, inner.forward) == (4, 5, None)
