"""The promises of :mod:`slstream.codecs.contract`, as tests for any codec. Needs the dev extra.

In a test module of yours::

    class TestMyCodec(CodecContract):
        configs = {"default": [{"id": "mine"}], "fine": [{"id": "mine", "level": 2}]}

A codec of bytes is tested behind ``raw32`` (``[{"id": "raw32"}, {"id": "mine"}]``), and by
:class:`BytesCodecContract` besides. The codec must be installed under its entry point. One that
``needs_forward`` is given activations with and without zeros beside the tensors; one with a state
is given a new one for each end and tensor, and is tested over sequences by
:class:`slstream.testing.codec_states.CodecStateContract` besides.
"""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slstream.codecs.chain import CodecChain
from slstream.codecs.contract import (
    HEADER_BYTES,
    BytesCodec,
    CodecContext,
    FloatArray,
    StateSpec,
    TensorSpec,
)
from slstream.codecs.registry import codec_from_config
from slstream.errors import CodecConfigError, DecodeError, EncodeError

ChainConfig = Sequence[Mapping[str, object]]

CONTEXT = CodecContext(seed=0x5EED, counter=7)

FIXED_BYTES = 256 * 1024
"""What a decoder may allocate beside twice the expected tensor: tables and objects."""

_LARGEST = float(np.finfo(np.float32).max)


def activation(rows: int, width: int, seed: int = 0) -> FloatArray:
    """Like the output of a ReLU layer: columns differ in scale and in how often they are 0."""
    rng = np.random.default_rng(seed)
    scale, shift = np.exp(0.7 * rng.standard_normal(width)), 0.7 * rng.standard_normal(width)
    values = np.maximum(rng.standard_normal((rows, width)) + shift, 0) * scale
    return values.astype(np.float32)


def gradient(rows: int, width: int, seed: int = 0) -> FloatArray:
    """Like a gradient at the cut: rows differ in scale by orders of magnitude."""
    rng = np.random.default_rng(seed)
    scale = np.exp(2 * rng.standard_normal((rows, 1)) - 9)
    return (rng.standard_normal((rows, width)) * scale).astype(np.float32)


def one_logit_gradient(rows: int, width: int, seed: int = 0) -> FloatArray:
    """Like a gradient below one logit: rows differ by a factor, but for a little noise."""
    rng = np.random.default_rng(seed)
    factor, noise = rng.standard_normal((rows, 1)), 0.3 * rng.standard_normal((rows, width))
    return (factor * (rng.standard_normal(width) + noise)).astype(np.float32)


def edge_tensors() -> dict[str, FloatArray]:
    """Finite tensors that codecs are known to get wrong, by name."""
    outlier = activation(64, 32, seed=1)
    outlier[17, 5] = -4e6
    wide = np.logspace(-38, 38, 512, dtype=np.float32).reshape(32, 16)
    wide[::2] *= -1
    tanh = np.tanh(np.linspace(-9, 9, 640, dtype=np.float32)).reshape(20, 32)
    read_only = activation(12, 9)
    read_only.flags.writeable = False
    return {
        "no rows": np.zeros((0, 64), np.float32),
        "no columns": np.zeros((3, 0), np.float32),
        "one element": np.full((1, 1), -2.5, np.float32),
        "one row": activation(1, 64),
        "one column": gradient(40, 1),
        "1-D": gradient(1, 100)[0],
        "3-D": activation(24, 30).reshape(24, 5, 6),
        "4-D": activation(48, 60).reshape(48, 3, 4, 5),
        "odd width": gradient(33, 37),
        "one logit": one_logit_gradient(40, 36),
        "all zero": np.zeros((16, 64), np.float32),
        "negative zeros": np.full((16, 8), -0.0, np.float32),
        "a zero row": np.vstack([np.zeros((1, 64), np.float32), gradient(40, 64)]),
        "constant": np.full((64, 64), 3.0, np.float32),
        "far from zero": np.array([[10.0, 11.0, 12.0, 13.0]] * 8, np.float32),
        "negative only": -1 - activation(40, 40),
        "symmetric range": tanh,
        "huge range": wide,
        "largest floats": np.array([[_LARGEST, -_LARGEST], [0.0, 1.0]], np.float32),
        "all largest": np.full((8, 8), _LARGEST, np.float32),
        "subnormal": np.full((40, 40), 1e-44, np.float32),
        "tiny": gradient(40, 40) * np.float32(1e-30),
        "one outlier": outlier,
        "activation": activation(96, 64),
        "gradient": gradient(96, 64),
        "transposed": activation(30, 50).T,
        "strided": gradient(60, 64)[::2, ::-3],
        "read-only": read_only,
    }


def contexts_for(chain: CodecChain, shape: tuple[int, ...]) -> list[CodecContext]:
    """What to encode a tensor with: where the chain needs an activation, one context per kind."""
    context = restarted(chain, CONTEXT, shape)
    if not chain.needs_forward:
        return [context]
    rng = np.random.default_rng(5)
    values, few = rng.standard_normal(shape), rng.random(shape) < 1 / 40
    half = np.where(np.abs(values) < 0.7, 0, values)
    activations = (half, np.where(few, -0.0, 1.0), values + 9, 0 * values)
    return [replace(context, forward=np.asarray(each, np.float32)) for each in activations]


def context_for(chain: CodecChain, shape: tuple[int, ...]) -> CodecContext:
    """The first of these: about half of the activation is 0."""
    return contexts_for(chain, shape)[0]


def restarted(chain: CodecChain, context: CodecContext, shape: tuple[int, ...]) -> CodecContext:
    """The context with the state before the first tensor, and rows; as it is for other chains.

    A session has some more rows than the tensor, which has its own in falling order.
    """
    count = shape[0] if shape else 0
    state = chain.new_state(StateSpec(rows=count + 3, row_shape=shape[1:]))
    if state is None:
        return context
    return replace(context, state=state, rows=np.arange(count, 0, -1, dtype=np.int64))


class CodecContract:
    """Every promise of a codec, through a chain. Set ``configs``."""

    configs: ClassVar[Mapping[str, ChainConfig]]
    """Chains under test, by a name for reports."""

    @classmethod
    def pytest_generate_tests(cls, metafunc: pytest.Metafunc) -> None:
        """Run every test for every chain."""
        chains = [CodecChain.from_config(config) for config in cls.configs.values()]
        metafunc.parametrize("chain", chains, ids=list(cls.configs))

    def test_config_round_trips_through_json(self, chain: CodecChain) -> None:
        written = json.loads(json.dumps(chain.config()))
        assert CodecChain.from_config(written) == chain
        assert CodecChain.from_config(written).config() == written
        assert hash(CodecChain.from_config(written)) == hash(chain)
        for each, codec in zip(written, (chain.tensor, *chain.stages), strict=True):
            assert each["id"] == codec.id

    def test_unknown_parameters_are_refused_by_name(self, chain: CodecChain) -> None:
        for each in chain.config():
            with pytest.raises(CodecConfigError, match="no_such_parameter"):
                codec_from_config({**each, "no_such_parameter": 1})

    def test_edge_tensors_decode_to_their_shape_and_stay_small(self, chain: CodecChain) -> None:
        for name, tensor in edge_tensors().items():
            before = tensor.copy()
            for context in contexts_for(chain, tensor.shape):
                data = chain.encode(tensor, context)
                assert isinstance(data, bytes), name
                assert len(data) <= tensor.nbytes + HEADER_BYTES, name
                decoded = chain.decode(data, TensorSpec(shape=tensor.shape), context)
                check_decoded(decoded, tensor.shape)
                assert np.all(np.isfinite(decoded)), name
                assert np.array_equal(bits_of(tensor), bits_of(before)), f"{name}: was modified"
                if chain.exact:
                    assert np.array_equal(bits_of(decoded), bits_of(tensor)), name

    def test_encoding_is_a_function_of_values_and_context(self, chain: CodecChain) -> None:
        context = context_for(chain, (40, 48))
        for tensor in (activation(40, 48), gradient(40, 48)):
            data = chain.encode(tensor, context)
            again = CodecChain.from_config(chain.config())
            assert again.encode(tensor.copy(), context) == data
            assert chain.encode(np.asfortranarray(tensor), context) == data
            assert chain.encode(np.repeat(tensor, 2, axis=1)[:, ::2], context) == data
            spec = TensorSpec(shape=tensor.shape)
            expected = bits_of(chain.decode(data, spec, restarted(chain, context, tensor.shape)))
            for form in (bytearray(data), memoryview(data)):
                end = restarted(chain, context, tensor.shape)
                assert np.array_equal(bits_of(chain.decode(form, spec, end)), expected)

    def test_decoded_tensors_do_not_share_memory_with_the_bytes(self, chain: CodecChain) -> None:
        tensor = activation(8, 8)
        context = context_for(chain, tensor.shape)
        data = bytearray(chain.encode(tensor, context))
        decoded = chain.decode(data, TensorSpec(shape=tensor.shape), context)
        kept = decoded.copy()
        data[:] = bytes(len(data))
        assert np.array_equal(decoded, kept)

    def test_nan_and_inf_round_trip_or_are_refused_with_their_index(
        self, chain: CodecChain
    ) -> None:
        for value in (np.nan, np.inf, -np.inf):
            tensor = activation(6, 7)
            tensor[4, 2] = value
            for context in contexts_for(chain, tensor.shape):
                try:
                    data = chain.encode(tensor, context)
                except EncodeError as exc:
                    assert "(4, 2)" in str(exc)  # noqa: PT017 - either outcome is right
                else:
                    assert not chain.finite, "it says that it refuses them"
                    decoded = chain.decode(data, TensorSpec(shape=tensor.shape), context)
                    assert np.array_equal(decoded[4, 2], tensor[4, 2], equal_nan=True)

    def test_other_inputs_are_refused(self, chain: CodecChain) -> None:
        refused: tuple[object, ...] = (
            np.zeros((2, 2), np.float64),
            np.zeros((2, 2), np.int32),
            np.zeros((), np.float32),
            np.zeros((1, 1, 1, 1, 1), np.float32),
            [[1.0]],
        )
        for tensor in refused:
            context = context_for(chain, getattr(tensor, "shape", (1, 1)))
            with pytest.raises(EncodeError):
                chain.encode(tensor, context)  # type: ignore[arg-type]

    def test_an_activation_is_needed_where_the_codec_says_so(self, chain: CodecChain) -> None:
        tensor, spec = gradient(40, 48), TensorSpec(shape=(40, 48))
        context = context_for(chain, tensor.shape)
        data = chain.encode(tensor, context)
        forward = activation(40, 48)
        if not chain.needs_forward:
            assert chain.encode(tensor, replace(context, forward=forward)) == data
            return
        foreign: tuple[object, ...] = (None, forward.T, forward[:1], forward.astype(np.float64), 0)
        for each in foreign:
            wrong = replace(context, forward=each)  # type: ignore[arg-type]
            with pytest.raises(EncodeError, match="activation"):
                chain.encode(tensor, wrong)
            with pytest.raises(DecodeError, match="activation"):
                chain.decode(data, spec, wrong)
        before = forward.copy()
        data = chain.encode(tensor, replace(context, forward=forward))
        for same in (forward.copy(), np.asfortranarray(forward)):
            assert chain.encode(tensor, replace(context, forward=same)) == data
            chain.decode(data, spec, replace(context, forward=same))
        assert np.array_equal(forward, before), "the activation was modified"

    def test_truncated_and_longer_bytes_are_refused_or_decode_to_the_shape(
        self, chain: CodecChain
    ) -> None:
        tensor = gradient(33, 40)
        context = context_for(chain, tensor.shape)
        data = chain.encode(tensor, context)
        for size in {0, 1, 2, 5, 17, len(data) // 2, len(data) - 1}:
            decode_hostile(chain, data[:size], tensor.shape)
        decode_hostile(chain, data + b"\0", tensor.shape)
        with pytest.raises(DecodeError):
            chain.decode(b"", TensorSpec(shape=tensor.shape), context)
        for shape in ((33, 41), (1,), (0, 4), (40, 33), (33 * 40,)):
            decode_hostile(chain, data, shape)

    def test_random_bytes_are_refused_or_decode_to_the_shape(self, chain: CodecChain) -> None:
        @settings(max_examples=40, deadline=None)
        @given(data=st.binary(max_size=300), rows=st.integers(0, 40), width=st.integers(1, 40))
        def check(data: bytes, rows: int, width: int) -> None:
            decode_hostile(chain, data, (rows, width))
            for form in range(4):  # what follows a form byte that the codec knows
                decode_hostile(chain, bytes([form]) + data, (rows, width))

        check()

    def test_damaged_bytes_are_refused_or_decode_to_the_shape(self, chain: CodecChain) -> None:
        context = context_for(chain, (37, 40))
        encoded = [chain.encode(make(37, 40), context) for make in (activation, gradient)]

        @settings(max_examples=80, deadline=None)
        @given(
            whole=st.sampled_from(encoded),
            flips=st.lists(st.tuples(st.integers(0, 10_000), st.integers(1, 255)), min_size=1),
            near=st.sampled_from([16, 128, 10_000]),
        )
        def check(whole: bytes, flips: list[tuple[int, int]], near: int) -> None:
            damaged = bytearray(whole)
            for at, mask in flips:
                damaged[at % min(near, len(damaged))] ^= mask
            decode_hostile(chain, bytes(damaged), (37, 40))

        check()

    def test_decoding_allocates_at_most_twice_the_tensor(self, chain: CodecChain) -> None:
        tensor = gradient(1024, 256)
        for context in contexts_for(chain, tensor.shape):
            data = chain.encode(tensor, context)
            longer = data + bytes(4 * tensor.nbytes)
            flipped = bytes([data[0]]) + bytes(byte ^ 0x55 for byte in data[1:200]) + data[200:]
            for each in (data, longer, flipped, data[: len(data) // 2]):
                end = restarted(chain, context, tensor.shape)
                kept = sum(a.nbytes for a in end.state.arrays().values()) if end.state else 0
                allocated = peak_bytes(chain, each, tensor.shape, end)
                assert allocated <= 2 * tensor.nbytes + FIXED_BYTES + 4 * kept

    def test_threads_share_a_codec(self, chain: CodecChain) -> None:
        tensors = [make(50, 60, seed=i) for i in range(8) for make in (activation, gradient)]
        context = context_for(chain, (50, 60))
        alone = [chain.encode(tensor, context) for tensor in tensors]
        spec = TensorSpec(shape=(50, 60))

        def decode(data: bytes) -> FloatArray:
            return chain.decode(data, spec, restarted(chain, context, (50, 60)))

        decoded = [decode(data) for data in alone]
        with ThreadPoolExecutor(4) as pool:
            together = list(pool.map(lambda tensor: chain.encode(tensor, context), tensors * 4))
            back = list(pool.map(decode, alone * 4))
        assert together == alone * 4
        assert all(np.array_equal(a, b) for a, b in zip(back, decoded * 4, strict=True))


class BytesCodecContract:
    """What a codec of bytes promises on its own. Set ``configs``."""

    configs: ClassVar[Mapping[str, Mapping[str, object]]]
    """Codecs under test, by a name for reports."""

    @classmethod
    def pytest_generate_tests(cls, metafunc: pytest.Metafunc) -> None:
        """Run every test for every codec."""
        codecs = [codec_from_config(config) for config in cls.configs.values()]
        metafunc.parametrize("codec", codecs, ids=list(cls.configs))

    def test_bytes_round_trip(self, codec: BytesCodec) -> None:
        @settings(max_examples=60, deadline=None)
        @given(data=st.binary(max_size=2000), repeats=st.integers(1, 50))
        def check(data: bytes, repeats: int) -> None:
            content = data * repeats
            packed = codec.compress(content)
            assert codec.decompress(packed, len(content)) == content
            assert codec.decompress(memoryview(packed), len(content) + 5) == content

        check()

    def test_content_above_the_limit_is_refused(self, codec: BytesCodec) -> None:
        packed = codec.compress(b"ab" * 1000)
        for limit in (1999, 1, 0):
            with pytest.raises(DecodeError, match=codec.id):
                codec.decompress(packed, limit)

    def test_a_bomb_allocates_no_more_than_the_limit(self, codec: BytesCodec) -> None:
        bomb = codec.compress(bytes(64 << 20))
        tracemalloc.start()
        try:
            with pytest.raises(DecodeError):
                codec.decompress(bomb, 1 << 20)
            assert tracemalloc.get_traced_memory()[1] <= (1 << 20) + FIXED_BYTES
        finally:
            tracemalloc.stop()

    def test_foreign_bytes_raise_documented_errors_only(self, codec: BytesCodec) -> None:
        @settings(max_examples=80, deadline=None)
        @given(data=st.binary(max_size=200), flip=st.integers(0, 10_000), mask=st.integers(1, 255))
        def check(data: bytes, flip: int, mask: int) -> None:
            damaged = bytearray(codec.compress(data * 3))
            damaged[flip % len(damaged)] ^= mask
            for each in (data, bytes(damaged), bytes(damaged[:-1])):
                with suppress(DecodeError):
                    assert len(codec.decompress(each, 500)) <= 500

        check()


def bits_of(tensor: FloatArray) -> npt.NDArray[np.uint32]:
    """The tensor's bits, so that NaN equals NaN and -0.0 differs from 0.0."""
    return np.ascontiguousarray(tensor).view(np.uint32)


def check_decoded(decoded: object, shape: tuple[int, ...]) -> None:
    """Fail unless it is a new float32 array as the contract asks."""
    assert isinstance(decoded, np.ndarray)
    assert decoded.dtype == np.float32
    assert decoded.shape == shape
    assert decoded.flags.c_contiguous
    assert decoded.flags.writeable


def decode_hostile(chain: CodecChain, data: bytes, shape: tuple[int, ...]) -> None:
    """Decode foreign bytes: fail unless the outcome is a tensor of this shape or DecodeError."""
    try:
        decoded = chain.decode(data, TensorSpec(shape=shape), context_for(chain, shape))
    except DecodeError as exc:
        assert str(exc)  # noqa: PT017 - either outcome is right
    else:
        check_decoded(decoded, shape)
        assert not chain.finite or np.isfinite(decoded).all()


def peak_bytes(
    chain: CodecChain, data: bytes, shape: tuple[int, ...], context: CodecContext
) -> int:
    """Most bytes that Python and numpy held at a time while decoding, whatever the outcome."""
    tracemalloc.start()
    try:
        with suppress(DecodeError):
            chain.decode(data, TensorSpec(shape=shape), context)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
