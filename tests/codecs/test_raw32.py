from __future__ import annotations

import numpy as np
import pytest

from slstream.codecs.contract import CodecContext, TensorSpec
from slstream.codecs.raw32 import Raw32
from slstream.errors import DecodeError

CONTEXT = CodecContext()


def test_every_bit_pattern_survives() -> None:
    bits = np.array([[0, 0x80000000, 1, 0x7F800000], [0xFF800000, 0x7FC00001, 0xFFFFFFFF, 7]])
    tensor = bits.astype(np.uint32).view(np.float32)
    data = Raw32().encode(tensor, CONTEXT)
    assert data == bits.astype("<u4").tobytes()
    decoded = Raw32().decode(data, TensorSpec(shape=(2, 4)), CONTEXT)
    assert decoded.tobytes() == tensor.tobytes()


@pytest.mark.parametrize("size", [0, 3, 15, 17, 32])
def test_another_length_is_refused(size: int) -> None:
    with pytest.raises(DecodeError) as caught:
        Raw32().decode(bytes(size), TensorSpec(shape=(2, 2)), CONTEXT)
    assert str(caught.value) == (f"codec 'raw32': expected 16 bytes for shape (2, 2), got {size}")
