from __future__ import annotations

import struct

import numpy as np
import pytest

from slstream.codecs.chain import CodecChain
from slstream.errors import ModelError, RemoteProtocolError, SessionAborted
from slstream.frames.header import FrameKind
from slstream.party.recent_activations import RecentActivations
from slstream.party.tensor_coder import TensorCoder, require_tensor
from slstream.party.times import Times

TENSOR = np.linspace(-1, 1, 12, dtype=np.float32).reshape(4, 3)
ROWS = np.array([5, 0, 9, 3])


def coder(
    codec: str = "raw32",
    seed: int = 1,
    kind: FrameKind = FrameKind.GRADIENT,
    recent: RecentActivations | None = None,
    **parameters: object,
) -> TensorCoder:
    return TensorCoder(
        CodecChain.from_config([{"id": codec, **parameters}]),
        kind,
        sender="bob",
        receiver="alice",
        schema_id=7,
        cut=(3,),
        seed=seed,
        times=Times(),
        recent=recent or RecentActivations(),
    )


def test_tensors_come_back() -> None:
    payload = coder().encode(TENSOR, ROWS, (1, 2, 0))
    assert (payload.raw_bytes, payload.schema_id) == (48, 7)
    np.testing.assert_array_equal(coder().decode(payload.data, ROWS, (1, 2, 0), None), TENSOR)


def test_noise_depends_on_seed_kind_and_place_alone() -> None:
    tensor = np.linspace(-1, 1, 600, dtype=np.float32).reshape(200, 3)

    def draw(*place: int, seed: int = 1, kind: FrameKind = FrameKind.GRADIENT) -> bytes:
        noisy = coder("ecsq", seed, kind, step=2.0, rounding="stochastic")
        epoch, step, micro_batch = place
        return noisy.encode(tensor, np.arange(200), (epoch, step, micro_batch)).data

    first = draw(1, 1, 0)
    assert draw(1, 1, 0) == first
    places = {draw(2, 1, 0), draw(1, 2, 0), draw(1, 1, 1), draw(1, 1, 255)}
    others = {draw(1, 1, 0, seed=2), draw(1, 1, 0, kind=FrameKind.ACTIVATION)}
    assert len({first, *places, *others}) == 7


@pytest.mark.parametrize("codec", ["raw32", "fp16", "ecsq"])
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_local_tensor_that_is_not_finite_has_diverged(codec: str, bad: float) -> None:
    tensor = TENSOR.copy()
    tensor[2, 1] = bad
    with pytest.raises(SessionAborted, match=r"bob's gradient of epoch 3, step 4 .*diverged"):
        coder(codec).encode(tensor, ROWS, (3, 4, 0))


def test_a_foreign_tensor_that_is_not_finite_is_refused_with_its_place() -> None:
    data = coder().encode(TENSOR, ROWS, (1, 2, 0)).data[:-4] + struct.pack("<f", float("nan"))
    with pytest.raises(RemoteProtocolError) as caught:
        coder().decode(data, ROWS, (1, 2, 0), "topic t, offset 9")
    assert str(caught.value) == (
        "bob's gradient of epoch 1, step 2 (topic t, offset 9) was refused: "
        "it holds NaN or infinite values"
    )


@pytest.mark.parametrize("rows", [0, 3, 5])
def test_another_number_of_rows_is_refused(rows: int) -> None:
    data = coder().encode(TENSOR, ROWS, (1, 2, 0)).data
    with pytest.raises(RemoteProtocolError, match=r"bob's gradient of epoch 1, step 2 .*refused"):
        coder().decode(data, np.arange(rows), (1, 2, 0), None)


def test_seconds_are_counted() -> None:
    both = coder()
    both.decode(both.encode(TENSOR, ROWS, (1, 1, 0)).data, ROWS, (1, 1, 0), None)
    assert both._times.codec_s > 0


def test_tensors_that_would_not_fit_into_memory_are_refused_before_they_are_made() -> None:
    require_tensor("bob", (1024,), 262_144)
    with pytest.raises(ModelError, match=r"bob: expected batches of at most 1073741824 bytes"):
        require_tensor("bob", (1024,), 262_145)
    with pytest.raises(ModelError, match=r"2 rows with a cut of \[2147483647, 2147483647\]"):
        require_tensor("bob", (2**31 - 1, 2**31 - 1), 2)
