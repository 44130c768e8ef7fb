from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from slstream.codecs import scale_context
from slstream.codecs.contract import TensorSpec
from slstream.codecs.scale_context import CONTEXTS, Layout


@pytest.mark.parametrize(
    ("shape", "rows", "width", "row_classes", "column_classes"),
    [
        ((512, 64), 512, 64, 512, 64),
        ((128, 8, 4, 4), 128, 128, 128, 128),
        ((31, 64), 31, 64, 31, 0),
        ((64, 31), 64, 31, 0, 31),
        ((4096,), 1, 4096, 0, 0),
        ((1, 64), 1, 64, 0, 0),
        ((64, 1), 64, 1, 0, 0),
        ((0, 64), 0, 0, 0, 0),
        ((64, 0), 64, 0, 0, 0),
    ],
)
def test_the_layout_follows_from_the_shape(
    shape: tuple[int, ...], rows: int, width: int, row_classes: int, column_classes: int
) -> None:
    layout = Layout.of(TensorSpec(shape=shape))
    assert layout == Layout(
        rows=rows, width=width, row_classes=row_classes, column_classes=column_classes
    )
    contexts = layout.class_contexts()
    assert contexts.tolist() == [8] * row_classes + [9] * column_classes


@pytest.mark.parametrize("width", [1, 3, 4, 64, 77])
def test_magnitudes_are_summed_by_row_and_column(width: int) -> None:
    symbols = np.random.default_rng(0).integers(0, 256, (50, width), np.uint8)
    rows, columns = np.empty(50, np.int32), np.empty(width, np.int32)
    scale_context.sum_magnitudes(symbols.reshape(-1), rows, columns)
    magnitudes = np.minimum((symbols.astype(int) + 1) // 2, 127)
    assert np.array_equal(rows, magnitudes.sum(axis=1))
    assert np.array_equal(columns, magnitudes.sum(axis=0))


def test_a_class_is_the_rounded_logarithm_of_the_mean() -> None:
    sums = np.array([0, 1, 64, 100, 128, 6400, 12800, 127 * 6400], np.int32)
    classes = np.empty(sums.size, np.uint8)
    scale_context.classify(sums, 6400, classes)
    means = sums / 6400
    expected = [0 if m * 91 < 1 else int(np.floor(np.log2(np.floor(m * 91)))) + 1 for m in means]
    assert classes.tolist() == expected
    assert expected == [0, 0, 0, 1, 1, 7, 8, 14]


def test_contexts_are_clipped_sums_of_classes() -> None:
    rng = np.random.default_rng(0)
    rows, columns = rng.integers(0, 15, 40, np.uint8), rng.integers(0, 15, 33, np.uint8)
    out = np.empty(40 * 33, np.uint8)
    scale_context.fill_contexts(rows, columns, 33, 9, out)
    sums = rows[:, None].astype(int) + columns[None].astype(int)
    assert np.array_equal(out.reshape(40, 33), np.clip(sums - 9, 0, CONTEXTS - 1))
    none = np.empty(0, np.uint8)
    scale_context.fill_contexts(none, columns, 33, 3, out)
    assert np.array_equal(out.reshape(40, 33)[7], np.clip(columns.astype(int) - 3, 0, 7))
    scale_context.fill_contexts(none, none, 33, 0, out)
    assert not out.any()


def test_foreign_classes_give_contexts_in_range() -> None:
    foreign = np.full(40, 255, np.uint8)
    out = np.empty(1600, np.uint8)
    for lowest in (0, 255):
        scale_context.fill_contexts(foreign, foreign, 40, lowest, out)
        assert out.max() < CONTEXTS


def test_the_highest_context_holds_enough_elements() -> None:
    rng = np.random.default_rng(1)
    for spread in (0.5, 2.0, 4.0):
        rows = np.clip(rng.normal(6, spread, 200), 0, 14).astype(np.uint8)
        columns = np.clip(rng.normal(6, spread, 100), 0, 14).astype(np.uint8)
        lowest = scale_context.lowest_sum(rows, columns, 20000)
        sums = rows[:, None].astype(int) + columns[None].astype(int)
        top = lowest + CONTEXTS - 1
        assert (sums >= top).sum() >= 200
        assert top == CONTEXTS - 1 or (sums >= top + 1).sum() < 200
    none = np.empty(0, np.uint8)
    assert scale_context.lowest_sum(none, none, 5000) == 0


def test_a_mask_takes_out_and_puts_back_in_order() -> None:
    rng = np.random.default_rng(3)
    values = rng.integers(1, 256, 40 * 33, np.uint8)
    for share in (0.0, 0.02, 0.5, 0.98, 1.0):
        mask = rng.random((40, 33)) < share
        layout = Layout.of(TensorSpec(shape=(40, 33)), mask)
        selected = layout.select(values)
        assert layout.elements == selected.size == mask.sum()
        assert np.array_equal(selected, values[mask.reshape(-1)])
        assert np.array_equal(layout.restore(selected), values * mask.reshape(-1))
    whole = Layout.of(TensorSpec(shape=(40, 33)))
    assert whole.elements == 40 * 33
    assert whole.select(values) is values
    assert whole.restore(values) is values


def classes_of(layout: Layout, elements: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
    """And what follows from them."""
    symbols = np.full(layout.classes + elements.size, 77, np.uint8)
    symbols[layout.classes :] = elements.reshape(-1)
    contexts, lowest = layout.fit(symbols)
    classes = symbols[: layout.classes]
    assert np.array_equal(symbols[layout.classes :], elements.reshape(-1)), "they stay"
    assert np.array_equal(contexts[: layout.classes], layout.class_contexts())
    rows, columns = layout.split(classes)
    assert lowest == scale_context.lowest_sum(rows, columns, layout.elements)
    expected = np.empty(elements.size, np.uint8)
    scale_context.fill_contexts(rows, columns, layout.width, lowest, expected)
    assert np.array_equal(contexts[layout.classes :], expected)
    assert layout.coded(contexts).size == layout.classes + layout.elements
    assert np.array_equal(
        layout.coded(symbols)[layout.classes :], layout.select(symbols[layout.classes :])
    )
    return classes


def test_a_matrix_without_classes_has_one_context() -> None:
    assert classes_of(Layout.of(TensorSpec(shape=(31, 31))), np.arange(961) % 7).size == 0


def test_classes_are_over_what_a_mask_leaves() -> None:
    """A row or column of equal magnitudes has one class, however much of it is left."""
    rng = np.random.default_rng(4)
    spec = TensorSpec(shape=(300, 200))
    mask = rng.random(spec.shape) < rng.uniform(0.05, 1, (300, 1)) * rng.uniform(0.2, 1, 200)
    mask[7], mask[:, 11] = False, False
    magnitudes = np.repeat(np.arange(300) % 100 + 1, 200).reshape(spec.shape)
    for symbols in (2 * magnitudes, np.full(spec.shape, 254)):
        whole = classes_of(Layout.of(spec), symbols)
        masked = classes_of(Layout.of(spec, mask), symbols * mask)
        rows, masked_rows = whole[:300], masked[:300]
        assert masked_rows[7] == masked[300 + 11] == 0
        assert np.array_equal(np.delete(masked_rows, 7), np.delete(rows, 7))
    assert set(np.delete(masked[300:], 11)) == set(whole[300:])
