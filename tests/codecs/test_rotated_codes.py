"""Steps, fine rows and bodies: what ``klt`` and ``delta`` are made of."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slstream.codecs.contract import FloatArray, TensorSpec
from slstream.codecs.rotated_codes import BodyWriter, FineRows, Rotation, Step, read_body
from slstream.errors import DecodeError


@given(size=st.floats(2.0**-110, 2.0**95))
def test_a_step_is_within_a_thirtieth_of_its_size(size: float) -> None:
    step = Step.nearest(size)
    assert 16 <= step.multiple <= 32
    assert -127 <= step.exponent <= 96
    assert math.ldexp(step.multiple, step.exponent) == pytest.approx(size, rel=1 / 32)


def test_fine_rows_stand_for_floats_to_24_bits_of_the_largest() -> None:
    tensor = np.random.default_rng(1).standard_normal((50, 8)).astype(np.float32)
    fine = FineRows.of(tensor, float(np.abs(tensor).max()))
    assert np.array_equal(fine.values, np.rint(fine.values))
    assert np.abs(fine.values).max() <= 1 << 24
    error = fine.values * 2.0**fine.exponent - tensor
    assert np.abs(error).max() <= 2.0 ** (fine.exponent - 1)


def write(rotation: Rotation, tensor: FloatArray, check: int) -> tuple[bytes, bool]:
    writer = BodyWriter(rotation=rotation, refresh=8, most=1 << 20, context=None)
    fine = FineRows.of(tensor, float(np.abs(tensor).max()))
    written = writer.write(fine, Step.nearest(0.5), check)
    assert written is not None
    return written


def test_floats_and_integers_say_the_same() -> None:
    rotation = Rotation(16)
    mixing = np.random.default_rng(2).standard_normal((3, 16))
    tensor = (np.random.default_rng(3).standard_normal((200, 3)) @ mixing).astype(np.float32)
    body, with_basis = write(rotation, tensor, 5)
    assert with_basis
    spec = TensorSpec(shape=tensor.shape)
    coordinates = read_body(b"\3" + body, spec, rotation, 5, "klt", with_basis=True)
    unit = 2.0**coordinates.step.exponent
    floats, integers = coordinates.floats(16), coordinates.integers(16)
    assert np.abs(integers * unit - floats).max() <= unit / 2 * (1 + 1e-6)
    assert np.abs(floats - tensor).max() < 0.5 * 0.6 * np.sqrt(16)


@pytest.mark.parametrize(
    ("at", "value", "message"),
    [
        (0, 9, "continues the state"),
        (4, 15, "step of 16 to 32"),
        (4, 33, "step of 16 to 32"),
        (5, 97, "step of 16 to 32"),
        (5, 128, "step of 16 to 32"),
        (7, 1, "at most 16 columns"),
        (8, 0, "1 to 16 directions"),
        (9, 1, "1 to 16 directions"),
        (13, 255, "1 to 16 directions"),
    ],
)
def test_wrong_headers_are_refused_by_name(at: int, value: int, message: str) -> None:
    rotation = Rotation(16)
    tensor = np.random.default_rng(3).standard_normal((200, 1)) @ np.ones((1, 16))
    body = bytearray(write(rotation, tensor.astype(np.float32), 5)[0])
    body[at] = value
    spec = TensorSpec(shape=tensor.shape)
    with pytest.raises(DecodeError, match=message):
        read_body(b"\3" + body, spec, rotation, 5, "klt", with_basis=True)
    with pytest.raises(DecodeError, match="header of 14 bytes, got 13"):
        read_body(b"\3" + body[:13], spec, rotation, 5, "klt", with_basis=True)
