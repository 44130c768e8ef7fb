"""Byte for byte what the codecs on the host make, and the same errors."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from slstream.codecs.chain import CodecChain
from slstream.codecs.contract import CodecContext, FloatArray, TensorCodec, TensorSpec
from slstream.codecs.on_device import device_codec
from slstream.codecs.on_device.contract import DeviceCodec, to_device, to_host
from slstream.codecs.registry import built_in_ids
from slstream.errors import DecodeError, EncodeError
from slstream.testing.codecs import activation, edge_tensors, gradient
from tests.codecs.cases import CASES
from tests.codecs.on_device.devices import DEVICES

CONTEXT = CodecContext(seed=0x5EED, counter=7)

CHAINS = [CodecChain.from_config(config) for config in CASES.values()]
CHAINS += [
    CodecChain.from_config([{"id": name, "block": block, "rounding": rounding}])
    for name in ("q8row", "q4row", "q2row")
    for block in (0, 9)
    for rounding in ("nearest", "stochastic")
]
CODECS = {str(c.tensor): c.tensor for c in CHAINS if device_codec(c.tensor) is not None}

on_devices = pytest.mark.parametrize("device", DEVICES)
with_codecs = pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)


def stand_in(codec: TensorCodec) -> DeviceCodec[TensorCodec]:
    found = device_codec(codec)
    assert found is not None
    return found


def moved(tensor: FloatArray, device: torch.device) -> torch.Tensor:
    """On the device, transposed where the array is."""
    return torch.from_numpy(np.array(tensor, order="K")).to(device)


def assert_same(
    codec: TensorCodec,
    tensor: FloatArray,
    device: torch.device,
    context: CodecContext = CONTEXT,
) -> None:
    """Both ways on the host and on the device."""
    data = codec.encode(tensor, context)
    there = moved(tensor, device)
    assert stand_in(codec).encode(there, context) == data
    assert to_host(there).tobytes() == tensor.tobytes()  # it is not modified
    assert_same_decoding(codec, data, TensorSpec(shape=tensor.shape), device)


def assert_same_decoding(
    codec: TensorCodec, data: bytes, spec: TensorSpec, device: torch.device
) -> None:
    def there() -> FloatArray:
        found = stand_in(codec).decode(data, spec, CONTEXT, device)
        assert (found.device.type, found.dtype) == (device.type, torch.float32)
        assert found.is_contiguous()
        return to_host(found)

    expected = outcome(lambda: codec.decode(data, spec, CONTEXT))
    assert outcome(there) == expected


def outcome(decode: Callable[[], FloatArray]) -> tuple[tuple[int, ...], bytes] | str:
    """Shape and bits of a tensor, or why there is none."""
    try:
        tensor = decode()
    except DecodeError as error:
        return str(error)
    return tensor.shape, tensor.tobytes()


@st.composite
def tensors(draw: st.DrawFn) -> FloatArray:
    """Any bits that are finite, in most tensors within some range of exponents."""
    shape = tuple(draw(st.lists(st.integers(1, 9), min_size=1, max_size=4)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    bits = rng.integers(0, 2**23, shape, np.uint32)
    low = draw(st.integers(0, 254))
    high = draw(st.integers(low, min(254, low + draw(st.sampled_from((0, 3, 20, 254))))))
    bits |= rng.integers(low, high + 1, shape, np.uint32) << np.uint32(23)
    if draw(st.booleans()):
        bits |= rng.integers(0, 2, shape, np.uint32) << np.uint32(31)
    some = rng.random(shape) < draw(st.sampled_from((0.0, 0.2, 1.0)))
    bits[some] = draw(st.sampled_from((0, 0x80000000, 1, 0x80000001, 0x007FFFFF, 0x3F800000)))
    values: FloatArray = bits.view(np.float32)
    return values


@on_devices
@with_codecs
def test_edge_tensors(codec: TensorCodec, device: torch.device) -> None:
    for tensor in edge_tensors().values():
        assert_same(codec, tensor, device)


@on_devices
@with_codecs
def test_tensors_of_a_session(codec: TensorCodec, device: torch.device) -> None:
    for tensor in (activation(256, 96), gradient(256, 96), gradient(129, 67)):
        assert_same(codec, tensor, device)


@on_devices
@with_codecs
def test_values_half_way_between_two_that_cross(codec: TensorCodec, device: torch.device) -> None:
    """And their neighbours: one rounding more or less on the way, and some fall elsewhere."""
    rng = np.random.default_rng(1)
    tensor = gradient(96, 200, seed=2)
    largest = np.abs(tensor).max(axis=1, keepdims=True)
    for levels in (255, 127, 15, 7, 3, 1):
        scale = (largest / np.float32(levels)).view(np.uint32) + np.uint32(0xFFFF)
        steps = (scale & np.uint32(0xFFFF0000)).view(np.float32)
        near = steps * (rng.integers(-levels, levels, tensor.shape).astype(np.float32) + 0.5)
        near = (near.view(np.int32) + rng.integers(-3, 4, tensor.shape, np.int32)).view(np.float32)
        near[:, :1] = largest
        assert_same(codec, near, device)
        assert_same(codec, np.abs(near), device)
    bits = tensor.view(np.uint32)
    for low, half in ((0xFFFF, 0x8000), (0x1FFF, 0x1000)):  # of bf16 and fp16
        ties = bits & np.uint32(~low & 0xFFFFFFFF) | np.uint32(half)
        ties += rng.integers(0, 3, tensor.shape, np.uint32) - np.uint32(1)
        assert_same(codec, ties.view(np.float32), device)


@on_devices
@with_codecs
@settings(deadline=None, max_examples=60)
@given(tensor=tensors(), seed=st.integers(0, 2**64 - 1), counter=st.integers(0, 2**64 - 1))
def test_any_tensor(
    codec: TensorCodec, device: torch.device, tensor: FloatArray, seed: int, counter: int
) -> None:
    assert_same(codec, tensor, device, CodecContext(seed=seed, counter=counter))


@on_devices
@with_codecs
@settings(deadline=None, max_examples=60)
@given(tensor=tensors(), damage=st.data())
def test_any_bytes_are_read_or_refused_alike(
    codec: TensorCodec, device: torch.device, tensor: FloatArray, damage: st.DataObject
) -> None:
    data, spec = bytearray(codec.encode(tensor, CONTEXT)), TensorSpec(shape=tensor.shape)
    for place in damage.draw(st.lists(st.integers(0, len(data) - 1), max_size=4)):
        data[place] = damage.draw(st.sampled_from((0, 1, 2, 3, 0x7C, 0x7F, 0x80, 0xFC, 0xFF)))
    assert_same_decoding(codec, bytes(data), spec, device)
    cut = damage.draw(st.integers(0, len(data)))
    assert_same_decoding(codec, bytes(data[:cut]), spec, device)


@on_devices
@with_codecs
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_refused_with_its_place(
    codec: TensorCodec, bad: float, device: torch.device
) -> None:
    tensor = gradient(16, 24)
    tensor[3, 5] = tensor[7, 1] = bad
    with pytest.raises(EncodeError, match=r"at index \(3, 5\), 2 of 384") as expected:
        codec.encode(tensor, CONTEXT)
    with pytest.raises(EncodeError) as caught:
        stand_in(codec).encode(moved(tensor, device), CONTEXT)
    assert str(caught.value) == str(expected.value)


@on_devices
@with_codecs
def test_other_tensors_are_refused_as_on_the_host(codec: TensorCodec, device: torch.device) -> None:
    other = torch.zeros(2, 3, dtype=torch.float64, device=device)
    with pytest.raises(EncodeError, match="encodes float32 numpy arrays; got float64"):
        stand_in(codec).encode(other, CONTEXT)
    with pytest.raises(EncodeError, match="tensors of 1 to 4 dimensions"):
        stand_in(codec).encode(torch.zeros(1, 1, 1, 1, 1, device=device), CONTEXT)


@on_devices
def test_bytes_go_there_and_back(device: torch.device) -> None:
    array = np.frombuffer(bytes(range(200)), np.uint8)
    there = to_device(array, device)
    assert (there.device.type, there.dtype) == (device.type, torch.uint8)
    assert to_host(there).tobytes() == array.tobytes()


def test_which_codecs_there_are() -> None:
    default = {name: CASES[name] for name in built_in_ids() if name in CASES}
    chains = {name: CodecChain.from_config(config) for name, config in default.items()}
    found = [name for name, chain in chains.items() if device_codec(chain.tensor) is not None]
    assert found == ["bf16", "fp16", "q2row", "q4row", "q8row", "zstd_shuffled"]


def test_codecs_on_the_host_load_no_torch() -> None:
    script = """
import sys
from slstream.codecs.chain import CodecChain
from slstream.codecs.on_device import device_codec
for name in ("ecsq", "fp16", "q4row"):
    chain = CodecChain.from_config([{"id": name}])
assert "torch" not in sys.modules
assert device_codec(CodecChain.from_config([{"id": "ecsq"}]).tensor) is None
print("torch" in sys.modules, device_codec(chain.tensor) is not None, "torch" in sys.modules)
"""
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert result.stdout.split() == ["False", "True", "True"]
