from __future__ import annotations

import numpy as np
import pytest

from slstream.codecs.contract import CodecContext, FloatArray, TensorSpec
from slstream.codecs.ecsq import Ecsq
from slstream.codecs.ecsq_signs import EcsqSigns
from slstream.errors import DecodeError
from slstream.testing.codecs import edge_tensors, gradient, one_logit_gradient

CONTEXT = CodecContext(seed=1, counter=2)


def encoded(codec: Ecsq, tensor: FloatArray) -> bytes:
    return codec.encode(tensor, CONTEXT)


@pytest.mark.parametrize("step", [0.05, 0.5, 2.0])
@pytest.mark.parametrize("rounding", ["nearest", "stochastic"])
def test_the_values_are_those_of_ecsq(step: float, rounding: str) -> None:
    ours, plain = EcsqSigns(step=step, rounding=rounding), Ecsq(step=step, rounding=rounding)
    for name, tensor in edge_tensors().items():
        spec = TensorSpec(shape=tensor.shape)
        decoded = ours.decode(encoded(ours, tensor), spec, CONTEXT)
        expected = plain.decode(encoded(plain, tensor), spec, CONTEXT)
        assert decoded.tobytes() == expected.tobytes(), name


@pytest.mark.parametrize(("rows", "step"), [(128, 2.0), (512, 2.0), (512, 0.5)])
def test_gradients_below_one_logit_take_fewer_bytes(rows: int, step: float) -> None:
    tensor = one_logit_gradient(rows, 64)
    plain = Ecsq(step=step, rounding="stochastic")
    ours = EcsqSigns(step=step)
    assert len(encoded(ours, tensor)) < 0.85 * len(encoded(plain, tensor))


def test_other_gradients_have_the_bytes_of_ecsq() -> None:
    tensor = gradient(256, 64)
    assert encoded(EcsqSigns(), tensor) == encoded(Ecsq(step=2.0, rounding="stochastic"), tensor)


def test_ecsq_itself_never_writes_signs() -> None:
    assert encoded(Ecsq(), one_logit_gradient(128, 64))[0] == 1
    assert encoded(EcsqSigns(), one_logit_gradient(128, 64))[0] == 3


def test_outliers_keep_their_sign() -> None:
    tensor = one_logit_gradient(64, 64)
    tensor[3, 4], tensor[60, 0], tensor[60, 1] = 40.0, -50.0, 60.0
    codec = EcsqSigns(step=0.05, rounding="nearest")
    data = encoded(codec, tensor)
    assert data[0] == 3
    decoded = codec.decode(data, TensorSpec(shape=tensor.shape), CONTEXT)
    step = 0.05 * float(np.sqrt(np.mean(tensor.astype(np.float64) ** 2)))
    assert np.abs(decoded - tensor).max() <= 0.51 * step


@pytest.mark.parametrize("shape", [(8, 512), (512, 8), (4096,)])
def test_signs_of_rows_that_have_none_are_refused(shape: tuple[int, ...]) -> None:
    data = b"\x03" + encoded(EcsqSigns(), gradient(512, 8).reshape(shape))[1:]
    with pytest.raises(DecodeError, match="at least 32 elements have signs, got 3"):
        EcsqSigns().decode(data, TensorSpec(shape=shape), CONTEXT)


def test_a_mask_leaves_out_what_it_leaves_out() -> None:
    tensor = one_logit_gradient(128, 64)
    mask = np.random.default_rng(3).random(tensor.shape) < 0.5
    masked = np.where(mask, tensor, np.float32(0))
    codec, spec = EcsqSigns(), TensorSpec(shape=tensor.shape)
    data = codec.encode_masked(masked, mask, CONTEXT)
    plain = Ecsq(step=2.0, rounding="stochastic")
    assert data[0] == 3
    assert len(data) < 0.9 * len(plain.encode_masked(masked, mask, CONTEXT))
    decoded = codec.decode_masked(data, spec, mask)
    expected = plain.decode_masked(plain.encode_masked(masked, mask, CONTEXT), spec, mask)
    assert decoded.tobytes() == expected.tobytes()
