from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pytest

from slstream.bench.codec_trial import best_gb_per_s, try_codec
from slstream.codecs.chain import CodecChain
from slstream.codecs.contract import (
    Buffer,
    CodecContext,
    CodecState,
    FloatArray,
    StateSpec,
    TensorCodec,
    TensorSpec,
)
from slstream.codecs.signal_to_noise import signal_to_noise_db
from slstream.errors import CodecError, DecodeError
from slstream.testing.codecs import activation

CONTEXT = CodecContext(seed=3)


class Told(TensorCodec):
    """Gives what it is told to give."""

    id: ClassVar[str] = "told"

    def __init__(self, *, encoded: Any = b"1234567", decoded: Any = None) -> None:
        self.encoded, self.decoded = encoded, decoded

    def __str__(self) -> str:
        return self.id

    def encode(self, tensor: FloatArray, context: CodecContext) -> bytes:
        return self.encoded  # type: ignore[no-any-return]

    def decode(self, data: Buffer, spec: TensorSpec, context: CodecContext) -> FloatArray:
        return self.decoded  # type: ignore[no-any-return]


def test_numbers_are_those_of_decoded_minus_original() -> None:
    tensor = np.array([[1, -2], [3, 4]], np.float32)
    told = Told(decoded=np.array([[1, -3], [3, 4.5]], np.float32))
    trial = try_codec(CodecChain(told), tensor, CONTEXT, seconds=0)
    assert (trial.raw_bytes, trial.encoded_bytes, trial.bits_per_element) == (16, 7, 14)
    assert (trial.largest_error, trial.mean_error) == (1, -0.125)
    assert trial.snr_db == pytest.approx(10 * np.log10(30 / 1.25))
    assert trial.encode_gb_per_s > 0
    assert trial.decode_gb_per_s > 0


@dataclass
class Seen(CodecState):
    rows: npt.NDArray[np.int64]

    def arrays(self) -> Mapping[str, npt.NDArray[Any]]:
        return {"rows": self.rows}


class Remembers(Told):
    """Takes a byte for a row that it has not seen."""

    def new_state(self, spec: StateSpec) -> CodecState:
        assert spec.row_shape == (2,)
        return Seen(rows=np.zeros(spec.rows, np.int64))

    def encode(self, tensor: FloatArray, context: CodecContext) -> bytes:
        assert isinstance(context.state, Seen)
        assert context.rows is not None
        return bytes(int(np.count_nonzero(context.state.rows[context.rows] == 0)))

    def decode(self, data: Buffer, spec: TensorSpec, context: CodecContext) -> FloatArray:
        if len(data) != len(self.encode(self.decoded, context)):
            raise DecodeError("a tensor that was seen")
        assert isinstance(context.state, Seen)
        context.state.rows[context.rows] = 1
        return self.decoded  # type: ignore[no-any-return]


def test_a_codec_with_a_state_is_given_a_new_one_each_time() -> None:
    tensor = activation(5, 2)
    remembers = Remembers(decoded=tensor)
    trial = try_codec(CodecChain(remembers), tensor, CONTEXT, seconds=0)
    assert (trial.encoded_bytes, trial.stateful) == (5, True)
    plain = try_codec(CodecChain(Told(decoded=tensor)), tensor, CONTEXT, seconds=0)
    assert not plain.stateful


def test_exact_is_200_db() -> None:
    trial = try_codec(CodecChain.from_config([{"id": "raw32"}]), activation(9, 9), CONTEXT)
    assert (trial.snr_db, trial.largest_error, trial.mean_error) == (200, 0, 0)


@pytest.mark.parametrize(
    ("tensor", "decoded", "expected"),
    [([0.0, 0], [0.0, 0], 200), ([0.0, 0], [0.0, 1], -200), ([1.0, 1], [1.1, 0.9], 20)],
)
def test_signal_to_noise(tensor: list[float], decoded: list[float], expected: float) -> None:
    found = signal_to_noise_db(np.array(tensor, np.float32), np.array(decoded, np.float32))
    assert found == pytest.approx(expected, abs=1e-5)


def test_the_best_of_at_least_three_counts_without_what_goes_before() -> None:
    calls: list[str] = []

    def before() -> None:
        calls.append("before")
        time.sleep(0.02)

    tensor = activation(500, 500)
    speed = best_gb_per_s(tensor, lambda: calls.append("work"), seconds=0, before=before)
    assert speed > tensor.nbytes / 0.02 / 1e9
    assert calls == ["before", "work"] * 3


@pytest.mark.parametrize(
    ("told", "fault"),
    [
        (Told(encoded=bytes(33)), "at most 32 bytes, got 33 bytes"),
        (Told(encoded=bytearray(3)), "at most 32 bytes, got bytearray"),
        (Told(decoded=[1.0]), "a float32 array, got list"),
        (Told(decoded=np.zeros((2, 2))), "a float32 array, got float64"),
        (Told(decoded=np.zeros((4, 1), np.float32)), r"shape \(2, 2\), got \(4, 1\)"),
        (Told(decoded=np.full((2, 2), np.inf, np.float32)), "NaN or infinity"),
    ],
)
def test_a_codec_that_breaks_its_contract_is_told(told: Told, fault: str) -> None:
    with pytest.raises(CodecError, match=f"breaks its contract: .*{fault}.*; test it with"):
        try_codec(CodecChain(told), np.ones((2, 2), np.float32), CONTEXT, seconds=0)
