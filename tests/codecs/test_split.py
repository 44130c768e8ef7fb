"""``split``: what conformance does not say."""

from __future__ import annotations

import math
import struct
from typing import Any, ClassVar

import numpy as np
import pytest

from slstream.codecs.chain import CodecChain
from slstream.codecs.contract import CodecContext, StateSpec, TensorSpec
from slstream.codecs.registry import codec_from_config, readable_ids
from slstream.codecs.split import MOST_TENSORS, Split
from slstream.errors import CodecConfigError, CodecError, DecodeError, EncodeError, UnknownCodec
from slstream.testing.codecs import CodecContract, activation, gradient

CONTEXT = CodecContext(seed=5, counter=9)


def tensor(name: str, size: int, *chain: Any) -> dict[str, object]:
    codec = [{"id": each} if isinstance(each, str) else each for each in chain]
    return {"name": name, "size": size, "codec": codec}


def split(*tensors: dict[str, object]) -> Split:
    built = codec_from_config({"id": "split", "tensors": list(tensors)})
    assert isinstance(built, Split)
    return built


WIDE, FINE = tensor("wide", 8, "q4row"), tensor("fine", 32, "raw32", "zstd_shuffled")


class TestSplitGradients(CodecContract):
    configs: ClassVar = {
        "masked": [
            {
                "id": "split",
                "tensors": [
                    tensor("a", 15, "mask"),
                    tensor("b", 1, "raw32"),
                    tensor("c", 32, {"id": "mask", "values": "bf16"}),
                ],
            }
        ]
    }


@pytest.mark.parametrize("tail", [(), (3, 2)])
def test_each_tensor_is_coded_by_its_own_chain(tail: tuple[int, ...]) -> None:
    codec = split(WIDE, FINE)
    values = gradient(20, 40 * math.prod(tail)).reshape(20, 40, *tail)
    data = codec.encode(values, CONTEXT)
    decoded = codec.decode(data, TensorSpec(shape=values.shape), CONTEXT)
    assert np.array_equal(decoded[:, 8:], values[:, 8:])
    alone = CodecChain.from_config([{"id": "q4row"}])
    part = alone.encode(np.ascontiguousarray(values[:, :8]), CONTEXT)
    assert data[5 : 5 + len(part)] == part
    assert struct.unpack_from("<I", data, 1) == (len(part),)
    expected = alone.decode(part, TensorSpec(shape=(20, 8, *tail)), CONTEXT)
    assert np.array_equal(decoded[:, :8], expected)


def test_two_tensors_of_one_codec_have_different_noise() -> None:
    noisy = {"id": "q2row", "rounding": "stochastic"}
    codec = split(tensor("a", 16, noisy), tensor("b", 16, noisy))
    half = gradient(64, 16)
    values = np.concatenate([half, half], axis=1)
    decoded = codec.decode(codec.encode(values, CONTEXT), TensorSpec(shape=(64, 32)), CONTEXT)
    assert not np.array_equal(decoded[:, :16], decoded[:, 16:])


def test_what_does_not_pay_goes_raw() -> None:
    codec = split(tensor("a", 1, "raw32"), tensor("b", 1, "raw32"))
    values = gradient(3, 2)
    data = codec.encode(values, CONTEXT)
    assert data == b"\0" + values.tobytes()
    assert codec.exact
    assert not split(WIDE, FINE).exact


def test_only_the_gradients_of_a_tensor_may_need_the_activation() -> None:
    codec = split(tensor("masked", 8, "mask"), tensor("other", 4, "raw32"))
    assert codec.needs_forward
    values, forward = gradient(30, 12), np.maximum(gradient(30, 12, 3), 0)
    context = CodecContext(seed=1, counter=1, forward=forward)
    decoded = codec.decode(codec.encode(values, context), TensorSpec(shape=(30, 12)), context)
    assert np.array_equal(decoded[:, 8:], values[:, 8:])
    assert np.array_equal(decoded[:, :8] == 0, (forward[:, :8] == 0) | (decoded[:, :8] == 0))
    assert np.all(decoded[:, :8][forward[:, :8] == 0] == 0)


def test_a_refused_value_names_its_tensor() -> None:
    values = activation(4, 40)
    values[2, 9] = np.nan
    codec = split(WIDE, tensor("rest", 32, "ecsq"))
    with pytest.raises(EncodeError, match=r"tensor 'rest': .* at index \(2, 1\)"):
        codec.encode(values, CONTEXT)


def test_a_tensor_that_cannot_be_decoded_leaves_the_state_of_another() -> None:
    codec = split(tensor("moving", 32, "delta"), tensor("wide", 8, "q8row"))
    ends = [codec.new_state(StateSpec(rows=20, row_shape=(40,))) for _ in range(2)]
    rows = np.arange(20)
    spec = TensorSpec(shape=(20, 40))
    sender, receiver = (CodecContext(seed=1, counter=1, rows=rows, state=end) for end in ends)
    data = codec.encode(activation(20, 40), sender)
    assert ends[1] is not None
    before = {name: array.copy() for name, array in ends[1].arrays().items()}
    assert all(name.startswith("moving.") for name in before)
    with pytest.raises(DecodeError, match="tensor 'wide'"):
        codec.decode(data[:-1], spec, receiver)
    after = ends[1].arrays()
    assert all(np.array_equal(after[name], array) for name, array in before.items())
    codec.decode(data, spec, receiver)
    assert not all(np.array_equal(after[name], array) for name, array in before.items())


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\2", "got form 2"),
        (b"\1abc", "got 4 bytes"),
        (b"\1\xff\xff\xff\xffabc", "expected 4294967295 bytes of tensor 'wide'; got 3"),
        (b"\1\1\0\0\0a", "tensor 'wide'"),
    ],
)
def test_lengths_that_do_not_fit_are_refused(data: bytes, message: str) -> None:
    with pytest.raises(DecodeError, match=message):
        split(WIDE, FINE).decode(data, TensorSpec(shape=(5, 40)), CONTEXT)


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ("q8row", "must be a list"),
        ([], f"takes 1 to {MOST_TENSORS} tensors; got 0"),
        ([WIDE] * 17, f"takes 1 to {MOST_TENSORS} tensors; got 17"),
        ([WIDE, WIDE], "must differ in name"),
        (["wide"], "must have the keys name, size, codec; got 'wide'"),
        ([{"name": "wide", "size": 8}], r"keys name, size, codec; got \['name', 'size'\]"),
        ([{**WIDE, "more": 1}], "keys name, size, codec"),
        ([tensor("Wide", 8, "q8row")], "name must be words"),
        ([tensor("w" * 41, 8, "q8row")], "name must be words"),
        ([tensor("wide", 0, "q8row")], "size must be an integer of 1 or more; got 0"),
        ([tensor("wide", True, "q8row")], "size must be an integer"),
        ([tensor("wide", 8, "zstd")], r"tensors\[0\] of codec 'split': a codec chain must start"),
        ([tensor("wide", 8)], "at least one codec config"),
        ([{**WIDE, "codec": 3}], "a codec chain must be a list"),
        ([tensor("wide", 8, {"id": "split", "tensors": [FINE]})], "cannot be split again"),
        ([tensor("a", 8, "delta"), tensor("b", 8, "klt")], "remembers? earlier tensors; got a, b"),
    ],
)
def test_other_configs_are_refused(tensors: object, message: str) -> None:
    with pytest.raises(CodecConfigError, match=message):
        codec_from_config({"id": "split", "tensors": tensors})


def test_an_unknown_codec_is_named_with_its_tensor() -> None:
    with pytest.raises(UnknownCodec, match=r"tensors\[1\] of codec 'split': no codec .*'ecsr'"):
        split(WIDE, tensor("b", 8, "ecsr"))


def test_a_document_cannot_nest_codecs_without_end() -> None:
    """``split`` inside ``topk`` inside ``split`` and so on: told before any is built."""
    config: dict[str, object] = {"id": "raw32"}
    for _ in range(400):
        inner = {"id": "topk", "values": config}
        config = {"id": "split", "tensors": [tensor("a", 8, inner)]}
    with pytest.raises(CodecError, match="a codec without another inside"):
        codec_from_config(config)
    with pytest.raises(CodecConfigError, match="without"):
        codec_from_config({"id": "topk", "values": {"id": "split", "tensors": [WIDE]}})


def test_it_can_be_read_but_is_nothing_to_choose() -> None:
    assert "split" in readable_ids()
    assert str(split(WIDE, FINE)) == "split(wide=q4row,fine=raw32+zstd_shuffled)"
