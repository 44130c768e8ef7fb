"""What a codec with a state promises over a sequence of tensors. Needs the dev extra.

In a test module of yours, beside :class:`slstream.testing.codecs.CodecContract`::

    class TestMyStates(CodecStateContract):
        configs = {"default": [{"id": "mine"}]}
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pytest

from slstream.codecs.chain import CodecChain
from slstream.codecs.contract import (
    HEADER_BYTES,
    CodecContext,
    CodecState,
    FloatArray,
    RowArray,
    StateSpec,
    TensorSpec,
)
from slstream.errors import DecodeError, EncodeError
from slstream.testing.codecs import ChainConfig, activation, bits_of, check_decoded, gradient

SESSION_ROWS = 150
WIDTH = 40

Step = tuple[FloatArray, RowArray]
Arrays = dict[str, npt.NDArray[Any]]


def sequence(tensors: int, seed: int = 0) -> Iterator[Step]:
    """Tensors of a session, and their rows: a model that changes slowly, sometimes abruptly.

    Among them are all-zero ones, gradients, ones without rows, and some that only raw floats hold.
    """
    rng = np.random.default_rng(seed)
    model = activation(SESSION_ROWS, WIDTH, seed)
    for i in range(tensors):
        model += np.float32(0.02) * activation(SESSION_ROWS, WIDTH, seed + i)
        rows = rng.permutation(SESSION_ROWS)[: int(rng.integers(0, 60))].astype(np.int64)
        tensor = model[rows]
        if i % 11 == 5:
            tensor = np.zeros_like(tensor)
        if i % 11 == 7:
            tensor = gradient(len(rows), WIDTH, i)
        if i % 11 == 9:
            tensor = tensor * np.float32(1e35)
        yield np.asarray(tensor, np.float32), rows


def copied(state: CodecState) -> Arrays:
    """What a checkpoint keeps of a state."""
    return {name: array.copy() for name, array in state.arrays().items()}


def same(arrays: Mapping[str, npt.NDArray[Any]], others: Mapping[str, npt.NDArray[Any]]) -> bool:
    """Whether both hold the same names, types, shapes and bits."""
    return arrays.keys() == others.keys() and all(
        array.dtype == others[name].dtype
        and array.shape == others[name].shape
        and array.tobytes() == others[name].tobytes()
        for name, array in arrays.items()
    )


class CodecStateContract:
    """Every promise of a codec's state, through a chain. Set ``configs``."""

    configs: ClassVar[Mapping[str, ChainConfig]]
    """Chains under test, by a name for reports."""

    @classmethod
    def pytest_generate_tests(cls, metafunc: pytest.Metafunc) -> None:
        """Run every test for every chain."""
        chains = [CodecChain.from_config(config) for config in cls.configs.values()]
        metafunc.parametrize("chain", chains, ids=list(cls.configs))

    def test_both_ends_stay_equal_and_encoding_changes_nothing(self, chain: CodecChain) -> None:
        sender, receiver = begin(chain), begin(chain)
        assert same(sender.arrays(), receiver.arrays())
        for i, (tensor, rows) in enumerate(sequence(40)):
            before, place = copied(sender), CodecContext(seed=1, counter=i, rows=rows)
            data = chain.encode(tensor, replace(place, state=sender))
            assert len(data) <= tensor.nbytes + HEADER_BYTES
            assert chain.encode(tensor.copy(), replace(place, state=sender)) == data
            assert same(sender.arrays(), before), "encoding changed the state"
            spec = TensorSpec(shape=tensor.shape)
            ends = [chain.decode(data, spec, replace(place, state=s)) for s in (sender, receiver)]
            check_decoded(ends[0], tensor.shape)
            assert np.array_equal(bits_of(ends[0]), bits_of(ends[1]))
            assert same(sender.arrays(), receiver.arrays())
            assert not same(sender.arrays(), before), "decoding left no trace"

    def test_a_restored_state_goes_on_with_the_same_bytes(self, chain: CodecChain) -> None:
        state, kept, bytes_after = begin(chain), Arrays(), list[bytes]()
        for i, (tensor, rows) in enumerate(sequence(24, seed=3)):
            if i == 12:
                kept = copied(state)
            context = CodecContext(seed=1, counter=i, rows=rows, state=state)
            bytes_after.append(chain.encode(tensor, context))
            chain.decode(bytes_after[-1], TensorSpec(shape=tensor.shape), context)
        restored = begin(chain)
        for name, array in restored.arrays().items():
            array[...] = kept[name]
        for i, (tensor, rows) in enumerate(sequence(24, seed=3)):
            if i >= 12:
                context = CodecContext(seed=1, counter=i, rows=rows, state=restored)
                assert chain.encode(tensor, context) == bytes_after[i]
                chain.decode(bytes_after[i], TensorSpec(shape=tensor.shape), context)
        assert same(restored.arrays(), state.arrays())

    def test_a_failed_decode_leaves_the_state_as_it_was(self, chain: CodecChain) -> None:
        state, rng = begin(chain), np.random.default_rng(2)
        refused = 0
        for i, (tensor, rows) in enumerate(sequence(12, seed=5)):
            context = CodecContext(seed=1, counter=i, rows=rows, state=state)
            spec, data = TensorSpec(shape=tensor.shape), chain.encode(tensor, context)
            before = copied(state)
            flips = [bytearray(data) for _ in range(20)]
            for damaged in flips:
                damaged[int(rng.integers(len(data)))] ^= 1 << int(rng.integers(8))
            longer, other = data + b"\1", bytes([255]) + data[1:]
            for hostile in (b"", data[:-1], data[:3], longer, other, *map(bytes, flips)):
                try:
                    decoded = chain.decode(hostile, spec, context)
                except DecodeError:
                    refused += 1
                    assert same(state.arrays(), before)
                else:
                    check_decoded(decoded, tensor.shape)
                    for name, array in state.arrays().items():
                        array[...] = before[name]
            chain.decode(data, spec, context)
        assert refused > 12, "most of these cannot be right"

    def test_a_lost_doubled_or_swapped_tensor_is_refused(self, chain: CodecChain) -> None:
        sender, receiver = begin(chain), begin(chain)
        steps = [step for step in sequence(12, seed=7) if step[0].size][:4]
        frames = []
        for i, (tensor, rows) in enumerate(steps):
            context = CodecContext(seed=1, counter=i, rows=rows, state=sender)
            frames.append(chain.encode(tensor, context))
            chain.decode(frames[-1], TensorSpec(shape=tensor.shape), context)
        for order in ((0, 2), (0, 0), (1,)):
            receiver = begin(chain)
            for at, frame in enumerate(order):
                tensor, rows = steps[frame]
                context = CodecContext(seed=1, counter=frame, rows=rows, state=receiver)
                spec = TensorSpec(shape=tensor.shape)
                if at < len(order) - 1:
                    chain.decode(frames[frame], spec, context)
                    continue
                with pytest.raises(DecodeError, match="state"):
                    chain.decode(frames[frame], spec, context)

    def test_a_state_is_needed(self, chain: CodecChain) -> None:
        tensor, rows = activation(5, WIDTH), np.arange(5)
        context = CodecContext(rows=rows, state=begin(chain))
        data = chain.encode(tensor, context)
        narrower = chain.new_state(StateSpec(rows=SESSION_ROWS, row_shape=(WIDTH - 1,)))
        for state in (None, _Foreign(), narrower):
            wrong = replace(context, state=state)
            with pytest.raises(EncodeError):
                chain.encode(tensor, wrong)
            with pytest.raises(DecodeError):
                chain.decode(data, TensorSpec(shape=tensor.shape), wrong)


class _Foreign(CodecState):
    """Of no codec."""

    def arrays(self) -> Mapping[str, npt.NDArray[Any]]:
        return {}


def begin(chain: CodecChain) -> CodecState:
    """The state of one end before the first tensor of a session."""
    state = chain.new_state(StateSpec(rows=SESSION_ROWS, row_shape=(WIDTH,)))
    assert state is not None, "the chain has no state"
    return state
