from __future__ import annotations

import math

import numpy as np
import pytest

from slstream.codecs.chain import CodecChain
from slstream.codecs.contract import CodecContext, FloatArray, TensorCodec, TensorSpec
from slstream.codecs.ecsq import Ecsq
from slstream.codecs.raw32 import Raw32
from slstream.codecs.registry import codec_from_config
from slstream.codecs.row_integers import Q4Row, Q8Row
from slstream.codecs.topk import TopK
from slstream.errors import CodecConfigError, DecodeError, EncodeError
from slstream.testing.codecs import activation, edge_tensors, gradient, peak_bytes

CONTEXT = CodecContext(seed=1, counter=2)


def round_trip(codec: TensorCodec, tensor: FloatArray) -> FloatArray:
    data = codec.encode(tensor, CONTEXT)
    return codec.decode(data, TensorSpec(shape=tensor.shape), CONTEXT)


def largest(tensor: FloatArray, fraction: float, per: str = "row") -> FloatArray:
    """The tensor with all but the largest set to 0, by a stable sort."""
    width = tensor.size if per == "tensor" or tensor.ndim == 1 else tensor[0].size
    rows = np.ascontiguousarray(tensor).reshape(-1, width)
    order = np.argsort(-np.abs(rows), axis=1, kind="stable")[:, : math.ceil(fraction * width)]
    kept = np.zeros_like(rows)
    np.put_along_axis(kept, order, np.take_along_axis(rows, order, axis=1), axis=1)
    return kept.reshape(tensor.shape)


@pytest.mark.parametrize("per", ["row", "tensor"])
@pytest.mark.parametrize("fraction", [0.05, 0.5])
def test_the_largest_survive_and_the_others_become_zero(fraction: float, per: str) -> None:
    codec = TopK(fraction=fraction, per=per, values=Raw32())
    for name, tensor in edge_tensors().items():
        if tensor.size == 0:
            continue
        data = codec.encode(tensor, CONTEXT)
        decoded = codec.decode(data, TensorSpec(shape=tensor.shape), CONTEXT)
        expected = tensor if data[0] == 0 else largest(tensor, fraction, per)
        assert np.array_equal(decoded, expected), name


@pytest.mark.parametrize("make", [activation, gradient])
@pytest.mark.parametrize("per", ["row", "tensor"])
def test_kept_elements_have_the_error_of_the_codec_inside(make: object, per: str) -> None:
    assert callable(make)
    tensor = make(64, 96)
    expected = largest(tensor, 0.25, per)
    decoded = round_trip(TopK(fraction=0.25, per=per, values=Q8Row()), tensor)
    width = 96 if per == "row" else tensor.size
    scale = np.abs(expected.reshape(-1, width)).max(axis=1, keepdims=True) / 127 * (1 + 2**-7)
    assert np.all(np.abs((decoded - expected).reshape(-1, width)) <= 0.5 * scale * (1 + 1e-4))
    assert not decoded[expected == 0].any()


def test_the_error_of_an_element_left_out_is_the_smallest_of_any_choice() -> None:
    tensor = gradient(50, 80)
    decoded = round_trip(TopK(fraction=0.1, values=Raw32()), tensor)
    left_out = decoded == 0
    smallest_kept = np.where(left_out, np.inf, np.abs(decoded)).min(axis=1, keepdims=True)
    assert np.all(np.abs(tensor)[left_out] <= np.broadcast_to(smallest_kept, (50, 80))[left_out])


def test_rows_keep_scales_of_their_own() -> None:
    tensor = gradient(64, 64) * np.logspace(-20, 3, 64, dtype=np.float32)[:, None]
    decoded = round_trip(TopK(fraction=0.25), tensor).astype(np.float64)
    expected = largest(tensor, 0.25).astype(np.float64)
    error = np.linalg.norm(decoded - expected, axis=1) / np.linalg.norm(expected, axis=1)
    assert error.max() < 0.01


@pytest.mark.parametrize("per", ["row", "tensor"])
@pytest.mark.parametrize(
    ("tensor", "size"),
    [
        (np.zeros((16, 64), np.float32), 1),
        (np.full((16, 64), -0.0, np.float32), 1),
        (np.zeros((0, 64), np.float32), 1),
        (np.zeros((3, 0), np.float32), 1),
        (np.zeros(0, np.float32), 1),
    ],
)
def test_zero_and_empty_tensors_take_one_byte(tensor: FloatArray, size: int, per: str) -> None:
    codec = TopK(per=per)
    assert len(codec.encode(tensor, CONTEXT)) == size
    decoded = round_trip(codec, tensor)
    assert decoded.shape == tensor.shape
    assert not decoded.any()


@pytest.mark.parametrize("per", ["row", "tensor"])
def test_one_dimension_one_column_and_a_constant_work(per: str) -> None:
    codec = TopK(fraction=0.1, per=per, values=Raw32())
    vector = gradient(1, 300)[0]
    assert np.array_equal(round_trip(codec, vector), largest(vector, 0.1))
    column = gradient(400, 1)
    expected = column if per == "row" else largest(column, 0.1, "tensor")
    assert np.array_equal(round_trip(codec, column), expected)
    constant = np.full((40, 50), -3.0, np.float32)
    decoded = round_trip(codec, constant)
    kept = np.zeros_like(constant)
    if per == "row":
        kept[:, :5] = -3
    else:
        kept[:4] = -3
    assert np.array_equal(decoded, kept)


def test_fraction_1_is_the_codec_inside_and_one_byte() -> None:
    tensor = gradient(30, 40)
    data = TopK(fraction=1, values=Q4Row()).encode(tensor, CONTEXT)
    assert data[1:] == Q4Row().encode(tensor, CONTEXT)
    assert np.array_equal(round_trip(TopK(fraction=1, values=Q4Row()), tensor),
                          round_trip(Q4Row(), tensor))  # fmt: skip


def test_what_does_not_pay_goes_raw() -> None:
    tensor = gradient(30, 40)
    data = TopK(fraction=1, values=Raw32()).encode(tensor, CONTEXT)
    assert data == b"\0" + tensor.tobytes()
    tiny = np.array([[1.0, -2.0]], np.float32)
    assert len(TopK().encode(tiny, CONTEXT)) <= 9


def test_nan_is_refused_by_name_and_index() -> None:
    tensor = activation(3, 4)
    tensor[1, 2] = np.nan
    with pytest.raises(EncodeError, match=r"'topk' refuses NaN and Inf: found nan at index \(1, 2"):
        TopK().encode(tensor, CONTEXT)


SECRETFLOW_BYTES_PER_KEPT = 20
"""Its topk_sparse sends two int64 indices and a float32 for each kept element."""


@pytest.mark.parametrize(
    ("fraction", "theirs", "exact_values", "default_values", "mixed"),
    [
        (0.5, 2.5, 0.527, 0.154, 0.060),
        (0.2, 1.016, 0.220, 0.070, 0.027),
        (0.1, 0.508, 0.112, 0.0375, 0.0152),
        (0.05, 0.254, 0.0566, 0.0204, 0.0084),
        (0.01, 0.0586, 0.0135, 0.0067, 0.0025),
    ],
)
def test_wire_ratios_where_secretflow_sends_more_than_raw(
    fraction: float, theirs: float, exact_values: float, default_values: float, mixed: float
) -> None:
    tensor = activation(512, 256)
    kept = 512 * math.ceil(fraction * 256)
    assert kept * SECRETFLOW_BYTES_PER_KEPT / tensor.nbytes == pytest.approx(theirs, rel=0.001)

    def ratio(values: TensorCodec, *stages: str) -> float:
        config = TopK(fraction=fraction, values=values).config()
        chain = CodecChain.from_config([config, *({"id": stage} for stage in stages)])
        return len(chain.encode(tensor, CONTEXT)) / tensor.nbytes

    # 4 bytes a kept float, and the places: the same content as theirs.
    assert ratio(Raw32()) == pytest.approx(exact_values, rel=0.01)
    assert ratio(Q8Row()) == pytest.approx(default_values, rel=0.01)
    assert ratio(Ecsq(step=0.5), "zstd") == pytest.approx(mixed, rel=0.01)


@pytest.mark.parametrize("per", ["row", "tensor"])
def test_no_tensor_takes_more_than_raw(per: str) -> None:
    rng = np.random.default_rng(3)
    for fraction in (0.001, 0.5, 0.9, 0.96, 1.0):
        for shape in ((1, 1), (1, 2), (7, 3), (40, 33), (5, 500)):
            tensor = rng.standard_normal(shape).astype(np.float32)
            for values in (Raw32(), Ecsq(step=0.05)):
                codec = TopK(fraction=fraction, per=per, values=values)
                assert len(codec.encode(tensor, CONTEXT)) <= tensor.nbytes + 1


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"fraction": 0}, "fraction of codec 'topk' must be a number from 0.001 to 1; got 0"),
        ({"fraction": 1.5}, "fraction of codec 'topk' must be a number from 0.001 to 1; got 1.5"),
        ({"per": "column"}, "per of codec 'topk' must be one of row, tensor; got 'column'"),
        (
            {"values": "zstd"},
            "values of codec 'topk' must be a codec of tensors; 'zstd' is a codec of bytes: put it "
            "behind the outer codec in the chain",
        ),
        (
            {"values": {"id": "topk"}},
            "values of codec 'topk' must be a codec without another inside; 'topk' has one as its "
            "'values': keep one of the two",
        ),
    ],
)
def test_bad_parameters_are_refused_by_name(config: dict[str, object], message: str) -> None:
    with pytest.raises(CodecConfigError) as caught:
        codec_from_config({"id": "topk", **config})
    assert str(caught.value) == message


def test_the_config_nests_the_codec_inside() -> None:
    assert TopK().config() == {
        "id": "topk",
        "fraction": 0.1,
        "per": "row",
        "values": {"id": "q8row", "rounding": "nearest", "block": 0},
    }
    assert str(TopK(fraction=0.05, values=Ecsq())) == "topk(fraction=0.05,values=ecsq)"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\x05", r"expected form 0 to 4, 0 or 4 if there are no elements; got 5"),
        (b"\x04\x00", r"expected 1 bytes for shape \(64, 64\), got 2"),
        (b"\x00\x00", r"expected 16385 bytes for shape \(64, 64\), got 2"),
        (b"\x01" + bytes(511), "expected a bitmap of 512 bytes, got 511"),
        (b"\x01" + bytes(600), "expected 7 of 64 elements kept in each of 64 groups; group 0"),
        (b"\x02" + bytes(3), "expected gaps of kept elements"),
        (b"\x02" + b"\xff" * 50, "expected 448 to 464 symbols of gaps"),
        (b"\x03", "expected a modelled bitmap"),
    ],
)
def test_bytes_that_no_encoder_writes_are_refused(data: bytes, message: str) -> None:
    with pytest.raises(DecodeError, match=message):
        TopK().decode(data, TensorSpec(shape=(64, 64)), CONTEXT)


def test_values_that_are_missing_surplus_or_of_another_count_are_refused() -> None:
    tensor = activation(64, 64)
    data = TopK().encode(tensor, CONTEXT)
    for damaged in (data[:-1], data + b"\0"):
        with pytest.raises(DecodeError, match="codec 'q8row': expected 577 bytes"):
            TopK().decode(damaged, TensorSpec(shape=tensor.shape), CONTEXT)
    for form in (1, 2, 3):
        with pytest.raises(DecodeError, match="if there are no elements"):
            TopK().decode(bytes([form]) + data[1:], TensorSpec(shape=(0, 64)), CONTEXT)


@pytest.mark.parametrize("fraction", [0.1, 0.5, 0.8, 0.96, 1.0])
@pytest.mark.parametrize("values", [Raw32(), Ecsq(step=0.05)])
def test_decoding_stays_within_twice_the_tensor(fraction: float, values: TensorCodec) -> None:
    tensor = gradient(2048, 256)
    for per in ("row", "tensor"):
        chain = CodecChain(TopK(fraction=fraction, per=per, values=values))
        data = chain.encode(tensor, CONTEXT)
        bomb = b"\x02" + b"\xff" * 9 + data[10:] + bytes(4 * tensor.nbytes)
        for each in (data, bomb, data[: len(data) // 2]):
            assert peak_bytes(chain, each, tensor.shape, CONTEXT) <= 2 * tensor.nbytes + 256 * 1024
