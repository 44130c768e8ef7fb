from __future__ import annotations

import numpy as np
import pytest

from slstream.codecs import payload
from slstream.errors import EncodeError


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (np.zeros(3), "codec 'x' encodes float32 numpy arrays; got float64"),
        (np.zeros(3, ">f4"), "codec 'x' encodes float32 numpy arrays; got >f4"),
        ([1.0], "codec 'x' encodes float32 numpy arrays; got list"),
        (
            np.zeros((), np.float32),
            "codec 'x' encodes tensors of 1 to 4 dimensions; got shape ()",
        ),
        (
            np.zeros((1,) * 5, np.float32),
            "codec 'x' encodes tensors of 1 to 4 dimensions; got shape (1, 1, 1, 1, 1)",
        ),
    ],
)
def test_a_tensor_of_another_kind_is_refused(tensor: object, message: str) -> None:
    with pytest.raises(EncodeError) as caught:
        payload.check_tensor(tensor, "x")  # type: ignore[arg-type]
    assert str(caught.value) == message


def test_a_contiguous_tensor_is_not_copied() -> None:
    tensor = np.ones((4, 5), np.float32)
    assert payload.check_tensor(tensor, "x") is tensor
    assert payload.check_tensor(tensor.T, "x").flags.c_contiguous


def test_bytes_are_seen_without_a_copy_and_read_only() -> None:
    data = bytearray(b"abc")
    view = payload.as_bytes(data)
    data[0] = 0
    assert view.tolist() == [0, 98, 99]
    assert not view.flags.writeable
