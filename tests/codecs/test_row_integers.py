from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from slstream.codecs.contract import CodecContext, FloatArray, TensorSpec
from slstream.codecs.row_integers import Q2Row, Q4Row, Q8Row, RowIntegers
from slstream.errors import DecodeError
from slstream.testing.codecs import activation, edge_tensors, gradient

CONTEXT = CodecContext(seed=1, counter=2)
CODECS = (Q8Row, Q4Row, Q2Row)


def round_trip(
    codec: RowIntegers, tensor: FloatArray, context: CodecContext = CONTEXT
) -> FloatArray:
    data = codec.encode(tensor, context)
    return codec.decode(data, TensorSpec(shape=tensor.shape), context)


def snr_db(tensor: FloatArray, decoded: FloatArray) -> float:
    noise = np.sum((tensor.astype(np.float64) - decoded) ** 2)
    return float(10 * np.log10(np.sum(tensor.astype(np.float64) ** 2) / noise))


def row_scales(tensor: FloatArray, codec: RowIntegers) -> npt.NDArray[np.float64]:
    """Largest scale that each element's row or block may have, in the tensor's shape."""
    flat = tensor.reshape(-1).astype(np.float64)
    width = codec.block or (tensor[0].size if tensor.ndim > 1 else tensor.size)
    levels = (1 << (codec.bits - 1)) - 1 if flat.min() < 0 else (1 << codec.bits) - 1
    starts = np.arange(0, flat.size, width)
    largest = np.maximum.reduceat(np.abs(flat), starts)
    scales = np.repeat(largest / levels * (1 + 2.0**-7), width)[: flat.size]
    return scales.reshape(tensor.shape)


@pytest.mark.parametrize("cls", CODECS)
@pytest.mark.parametrize("block", [0, 24])
@pytest.mark.parametrize(("rounding", "bound"), [("nearest", 0.5), ("stochastic", 1.0)])
def test_errors_stay_within_the_stated_bound(
    cls: type[RowIntegers], block: int, rounding: str, bound: float
) -> None:
    codec = cls(block=block, rounding=rounding)
    for name, tensor in edge_tensors().items():
        if tensor.size == 0:
            continue
        error = np.abs(round_trip(codec, tensor).astype(np.float64) - tensor)
        allowed = bound * row_scales(tensor, codec) * (1 + 1e-4)
        assert np.all(error <= allowed + 2.0**-100), name


@pytest.mark.parametrize("cls", CODECS)
@pytest.mark.parametrize("make", [activation, gradient])
def test_stochastic_rounding_is_unbiased(cls: type[RowIntegers], make: object) -> None:
    assert callable(make)
    tensor = make(16, 24)
    codec = cls(rounding="stochastic")
    n = 2000
    total = np.zeros(tensor.shape)
    for counter in range(n):
        total += round_trip(codec, tensor, CodecContext(seed=4, counter=counter))
    scales = row_scales(tensor, codec)
    deviation = (total / n - tensor) / scales
    # The largest of a row is within 2**-7 of a whole number of scales and rounds to it.
    assert np.abs(deviation).max() < 6 * 0.5 / np.sqrt(n) + 2.0**-16
    assert abs(deviation.mean()) < 6 * 0.5 / np.sqrt(n * tensor.size) + 2.0**-16


def test_a_tensor_without_negatives_takes_the_unsigned_grid() -> None:
    tensor = activation(128, 64)
    negative = tensor.copy()
    negative[0, 0] = -1e-3
    assert Q4Row().encode(tensor, CONTEXT)[0] == 1
    assert Q4Row().encode(negative, CONTEXT)[0] == 2
    # A signed grid on these throws away more than 5 dB.
    gain = snr_db(tensor, round_trip(Q4Row(), tensor)) - snr_db(
        negative, round_trip(Q4Row(), negative)
    )
    assert gain > 5


def test_zeros_stay_zero_and_signs_survive() -> None:
    tensor = gradient(32, 40)
    tensor[::3] = 0
    tensor[:, ::5] = 0
    for cls in CODECS:
        for rounding in ("nearest", "stochastic"):
            decoded = round_trip(cls(rounding=rounding), tensor)
            assert not decoded[tensor == 0].any()
            assert np.all(decoded * tensor >= 0)


def test_rows_of_very_different_scale_keep_their_precision() -> None:
    tensor = gradient(64, 64) * np.logspace(-20, 3, 64, dtype=np.float32)[:, None]
    decoded = round_trip(Q8Row(), tensor)
    for row in range(64):
        assert snr_db(tensor[row], decoded[row]) > 30


@pytest.mark.parametrize(
    ("codec", "shape", "size"),
    [
        (Q8Row(), (10, 64), 1 + 10 * (2 + 64)),
        (Q4Row(), (10, 63), 1 + 10 * (2 + 32)),
        (Q2Row(), (10, 4, 4, 4), 1 + 10 * (2 + 16)),
        (Q4Row(block=32), (10, 20), 1 + 7 * (2 + 16)),
        (Q4Row(), (100,), 1 + 2 + 50),
        (Q2Row(), (0, 8), 1),
    ],
)
def test_the_length_follows_from_the_shape(
    codec: RowIntegers, shape: tuple[int, ...], size: int
) -> None:
    tensor = np.ones(shape, np.float32)
    assert len(codec.encode(tensor, CONTEXT)) == size


def test_huge_tensors_go_raw() -> None:
    tensor = np.array([[3e38] * 40, [-1.0] * 40], np.float32)
    assert Q2Row().encode(tensor, CONTEXT)[0] == 0
    assert np.array_equal(round_trip(Q2Row(), tensor), tensor)


def test_bytes_that_no_encoder_writes_are_refused() -> None:
    data = Q8Row().encode(activation(8, 16), CONTEXT)
    spec = TensorSpec(shape=(8, 16))
    with pytest.raises(DecodeError, match="expected form 0, 1 or 2, got 9"):
        Q8Row().decode(b"\x09" + data[1:], spec, CONTEXT)
    with pytest.raises(DecodeError, match=r"expected 145 bytes for shape \(8, 16\), got 146"):
        Q8Row().decode(data + b"\0", spec, CONTEXT)
    for scale in (b"\xc0\x7f", b"\x80\x7f", b"\x80\xbf"):  # NaN, Inf, -1
        with pytest.raises(DecodeError, match="a scale is not within 0 and"):
            Q8Row().decode(data[:1] + scale + data[3:], spec, CONTEXT)
