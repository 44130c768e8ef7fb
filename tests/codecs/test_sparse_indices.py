from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slstream.codecs import rans
from slstream.codecs.contract import FloatArray, TensorSpec
from slstream.codecs.kept_elements import Groups, select_largest
from slstream.codecs.sparse_indices import (
    BITMAP,
    FORMS,
    GAPS,
    MODELLED,
    decode_indices,
    encode_indices,
)
from slstream.errors import DecodeError
from slstream.testing.codecs import activation, gradient

ByteArray = npt.NDArray[np.uint8]


def largest(
    tensor: FloatArray, fraction: float, *, per_row: bool = True
) -> tuple[ByteArray, Groups, TensorSpec]:
    spec = TensorSpec(shape=tensor.shape)
    groups = Groups.of(spec, fraction, per_row=per_row)
    mask = np.empty(tensor.size, np.uint8)
    select_largest(tensor.reshape(-1).view(np.int32), groups.width, groups.kept, mask)
    return mask, groups, spec


def noise(*shape: int) -> FloatArray:
    return np.random.default_rng(6).standard_normal(shape).astype(np.float32)


def as_array(data: bytes) -> ByteArray:
    return np.frombuffer(data, np.uint8)


def uniform_bits(fraction: float) -> float:
    """Entropy of a kept place, bits, where all places are equally likely."""
    rest = 1 - fraction
    return float(-(fraction * np.log2(fraction) + rest * np.log2(rest)) / fraction)


@pytest.mark.parametrize("per_row", [True, False])
@pytest.mark.parametrize("fraction", [0.001, 0.01, 0.1, 0.5, 0.9])
@pytest.mark.parametrize("shape", [(96, 64), (1, 200), (200, 2), (5000,), (33, 3, 7), (3, 70_000)])
def test_places_round_trip(shape: tuple[int, ...], fraction: float, per_row: bool) -> None:
    mask, groups, spec = largest(noise(*shape), fraction, per_row=per_row)
    form, data = encode_indices(mask, groups, spec)
    bitmap, used = decode_indices(form, as_array(data + b"rest"), groups, spec)
    assert used == len(data)
    assert np.array_equal(bitmap, np.packbits(mask))


def clustered(shape: tuple[int, int], run: int) -> FloatArray:
    """Large elements in runs: gaps are 0 or far."""
    tensor = np.ones(shape, np.float32)
    tensor.reshape(-1)[: -(-tensor.size // 50)] = 2
    return np.roll(tensor.reshape(-1), run).reshape(shape)


@pytest.mark.parametrize(
    ("tensor", "fraction", "per_row", "form"),
    [
        (noise(4, 20), 0.5, True, BITMAP),
        (noise(512, 256), 0.1, True, GAPS),
        (gradient(512, 256), 0.01, True, GAPS),
        (clustered((1, 60_000), 31_000), 0.02, True, GAPS),  # a gap of 121 symbols
        (activation(512, 256), 0.1, True, MODELLED),
        (activation(512, 256), 0.5, True, MODELLED),
        (gradient(512, 256), 0.1, False, MODELLED),
    ],
)
def test_each_form_is_taken_where_it_is_the_smallest(
    tensor: FloatArray, fraction: float, per_row: bool, form: int
) -> None:
    mask, groups, spec = largest(tensor, fraction, per_row=per_row)
    found, data = encode_indices(mask, groups, spec)
    assert found == form
    assert len(data) <= -(-mask.size // 8)
    bitmap, used = decode_indices(form, as_array(data), groups, spec)
    assert used == len(data)
    assert np.array_equal(bitmap, np.packbits(mask))


@pytest.mark.parametrize("fraction", [0.5, 0.2, 0.1, 0.05, 0.01])
@pytest.mark.parametrize("per_row", [True, False])
def test_places_that_are_uniform_cost_their_entropy(fraction: float, per_row: bool) -> None:
    mask, groups, spec = largest(noise(512, 256), fraction, per_row=per_row)
    bits = 8 * len(encode_indices(mask, groups, spec)[1]) / int(mask.sum())
    # A table and the states of the coder: about 100 bytes.
    assert bits < 1.02 * uniform_bits(mask.mean()) + 8 * 100 / int(mask.sum())


@pytest.mark.parametrize(("fraction", "less"), [(0.5, 0.87), (0.2, 0.78), (0.1, 0.7), (0.01, 0.65)])
def test_places_in_activations_cost_less_than_their_entropy(fraction: float, less: float) -> None:
    mask, groups, spec = largest(activation(512, 256), fraction)
    bits = 8 * len(encode_indices(mask, groups, spec)[1]) / int(mask.sum())
    assert bits < less * uniform_bits(mask.mean())


def test_nothing_crosses_where_all_are_kept() -> None:
    mask, groups, spec = largest(noise(5, 7), 1.0)
    assert encode_indices(mask, groups, spec) == (BITMAP, b"")
    for form in FORMS:
        bitmap, used = decode_indices(form, as_array(b"rest"), groups, spec)
        assert used == 0
        assert np.array_equal(np.unpackbits(bitmap, count=35), np.ones(35))


SPEC = TensorSpec(shape=(4, 100))
GROUPS = Groups.of(SPEC, 0.1, per_row=True)


def gaps(symbols: list[int], shift: int = 0, low: bytes = b"", count: int | None = None) -> bytes:
    array = np.array(symbols, np.uint8)
    coded = rans.encode(array, np.zeros_like(array), (array.size,), 1)
    stated = array.size if count is None else count
    return stated.to_bytes(4, "little") + bytes([shift]) + coded + low


ROW = [9, *[0] * 9]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\0\0\0", "expected gaps of kept elements, got 3 bytes"),
        (gaps(ROW * 4, count=39), "expected 40 to 41 symbols .* got 39 and 0"),
        (gaps(ROW * 4, count=2**32 - 1), "expected 40 to 41 symbols .* got 4294967295 and 0"),
        (gaps(ROW * 4, shift=1), "a shift of at most 0; got 40 and 1"),
        (gaps(ROW * 4, shift=255), "a shift of at most 0; got 40 and 255"),
        (gaps([*ROW * 3, *ROW, 255]), "the symbols lead elsewhere"),  # goes on after the last
        (gaps([*ROW * 4, 1]), "the symbols lead elsewhere"),
        (gaps([255, *ROW * 3, *ROW]), "the symbols lead elsewhere"),  # 264 of 100
        (gaps([*ROW * 3, 91, *[0] * 9]), "the symbols lead elsewhere"),  # past the last row
        (gaps([91, *[0] * 9, *ROW * 3]), "the symbols lead elsewhere"),  # into the next row
        (gaps([*ROW * 3, *[0] * 9, 255, 255])[:5] + b"\xff" * 60, "coder"),
        (gaps(ROW * 4)[:-1], "coder"),
    ],
)
def test_gaps_that_no_encoder_writes_are_refused(data: bytes, message: str) -> None:
    with pytest.raises(DecodeError, match=message):
        decode_indices(GAPS, as_array(data), GROUPS, SPEC)


def test_a_gap_to_the_last_element_is_accepted() -> None:
    bitmap, _ = decode_indices(GAPS, as_array(gaps([*ROW * 3, 90, *[0] * 9])), GROUPS, SPEC)
    assert np.unpackbits(bitmap, count=400)[-10:].all()


def test_low_bits_that_are_missing_are_refused() -> None:
    mask, groups, spec = largest(noise(512, 256), 0.01)
    form, data = encode_indices(mask, groups, spec)
    assert form == GAPS
    assert data[4] > 0
    with pytest.raises(DecodeError, match="the symbols lead elsewhere"):
        decode_indices(form, as_array(data[:-1]), groups, spec)


def test_bitmaps_that_no_encoder_writes_are_refused() -> None:
    spec = TensorSpec(shape=(3, 5))
    groups = Groups.of(spec, 0.4, per_row=True)
    good = np.packbits([1, 1, 0, 0, 0] * 3).tobytes()
    assert decode_indices(BITMAP, as_array(good), groups, spec)[1] == 2
    with pytest.raises(DecodeError, match="expected a bitmap of 2 bytes, got 1"):
        decode_indices(BITMAP, as_array(good[:1]), groups, spec)
    with pytest.raises(DecodeError, match="filled up with zeros"):
        decode_indices(BITMAP, as_array(bytes([good[0], good[1] | 1])), groups, spec)
    other = np.packbits([1, 1, 0, 0, 0, 1, 0, 0, 0, 0, 1, 1, 1, 0, 0]).tobytes()
    with pytest.raises(DecodeError, match=r"expected 2 of 5 elements kept .* group 1 has 1"):
        decode_indices(BITMAP, as_array(other), groups, spec)


def test_modelled_bitmaps_that_no_encoder_writes_are_refused() -> None:
    mask, groups, spec = largest(activation(96, 64), 0.1)
    form, data = encode_indices(mask, groups, spec)
    assert form == MODELLED
    other = Groups.of(spec, 0.2, per_row=True)
    with pytest.raises(DecodeError, match=r"expected 13 of 64 elements kept .* group 0 has 7"):
        decode_indices(form, as_array(data), other, spec)
    with pytest.raises(DecodeError, match="expected a modelled bitmap, got 0 bytes"):
        decode_indices(form, as_array(b""), groups, spec)
    with pytest.raises(DecodeError, match="coder"):
        decode_indices(form, as_array(data[:-1]), groups, spec)
    twos = np.full(400, 2, np.uint8)
    layout = 4 + 0  # four rows have classes, 100 columns of four rows have none
    symbols = np.concatenate((np.zeros(layout, np.uint8), twos))
    contexts = np.concatenate((np.full(layout, 8, np.uint8), np.zeros(400, np.uint8)))
    coded = bytes([0]) + rans.encode(symbols, contexts, (layout, 400), 10)
    with pytest.raises(DecodeError, match="expected 0 or 1 for each element, got 2"):
        decode_indices(MODELLED, as_array(coded), GROUPS, SPEC)


@settings(max_examples=200, deadline=None)
@given(
    form=st.sampled_from(FORMS),
    data=st.binary(max_size=200),
    fraction=st.sampled_from([0.01, 0.1, 0.5, 0.9]),
    shape=st.tuples(st.integers(1, 20), st.integers(1, 200)),
)
def test_foreign_bytes_give_the_right_number_of_places_or_an_error(
    form: int, data: bytes, fraction: float, shape: tuple[int, int]
) -> None:
    spec = TensorSpec(shape=shape)
    groups = Groups.of(spec, fraction, per_row=True)
    try:
        bitmap, used = decode_indices(form, as_array(data), groups, spec)
    except DecodeError:
        return
    kept = np.unpackbits(bitmap, count=spec.elements).reshape(shape).sum(axis=1)
    assert np.all(kept == groups.kept)
    assert used <= len(data)


@settings(max_examples=150, deadline=None)
@given(
    wide=st.booleans(),
    flips=st.lists(st.tuples(st.integers(0, 10_000), st.integers(1, 255)), min_size=1, max_size=3),
)
def test_damaged_places_are_as_many_or_refused(wide: bool, flips: list[tuple[int, int]]) -> None:
    mask, groups, spec = largest(noise(1, 9000) if wide else activation(60, 64), 0.05)
    form, data = encode_indices(mask, groups, spec)
    damaged = bytearray(data)
    for at, bits in flips:
        damaged[at % len(damaged)] ^= bits
    try:
        bitmap, _ = decode_indices(form, as_array(bytes(damaged)), groups, spec)
    except DecodeError:
        return
    places = np.unpackbits(bitmap, count=spec.elements).reshape(groups.count, groups.width)
    assert np.all(places.sum(axis=1) == groups.kept)
