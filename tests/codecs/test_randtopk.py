from __future__ import annotations

import numpy as np
import pytest

from slstream.codecs.contract import CodecContext, FloatArray, TensorSpec
from slstream.codecs.randtopk import RandTopK
from slstream.codecs.raw32 import Raw32
from slstream.codecs.registry import codec_from_config
from slstream.codecs.row_integers import Q4Row
from slstream.codecs.topk import TopK
from slstream.errors import CodecConfigError, EncodeError
from slstream.testing.codecs import activation, gradient

CONTEXT = CodecContext(seed=1, counter=2)


def decoded(codec: TopK, tensor: FloatArray, context: CodecContext = CONTEXT) -> FloatArray:
    return codec.decode(codec.encode(tensor, context), TensorSpec(shape=tensor.shape), context)


@pytest.mark.parametrize("make", [activation, gradient])
def test_without_alpha_it_is_topk(make: object) -> None:
    assert callable(make)
    tensor = make(40, 64)
    for per in ("row", "tensor"):
        plain = TopK(fraction=0.2, per=per, values=Q4Row())
        codec = RandTopK(fraction=0.2, per=per, values=Q4Row(), alpha=0)
        assert codec.encode(tensor, CONTEXT) == plain.encode(tensor, CONTEXT)
        # So the bytes of any of them are read by the other, as when a model goes into service.
        assert np.array_equal(decoded(codec, tensor), decoded(plain, tensor))


@pytest.mark.parametrize("per", ["row", "tensor"])
@pytest.mark.parametrize("alpha", [0.1, 0.5])
def test_the_mean_is_what_the_docstring_says(per: str, alpha: float) -> None:
    rows, width, n = 6, 20, 3000
    tensor = gradient(rows, width) + np.float32(1e-3)
    codec = RandTopK(fraction=0.2, per=per, values=Raw32(), alpha=alpha)
    total = np.zeros(tensor.shape)
    for counter in range(n):
        total += decoded(codec, tensor, CodecContext(seed=4, counter=counter)) != 0
    top = decoded(TopK(fraction=0.2, per=per, values=Raw32()), tensor) != 0
    chance = np.where(top, 1 - alpha, alpha * 0.2 / 0.8)
    sigma = np.sqrt(chance * (1 - chance) / n)
    assert np.all(np.abs(total / n - chance) < 5 * sigma)


def test_what_is_kept_has_its_value_and_k_are_kept() -> None:
    tensor = gradient(50, 40)
    back = decoded(RandTopK(fraction=0.25, values=Raw32(), alpha=0.3), tensor)
    assert np.all((back == 0) | (back == tensor))
    assert np.all(np.count_nonzero(back, axis=1) == 10)


def test_the_choice_follows_the_context() -> None:
    tensor = gradient(50, 40)
    codec = RandTopK(alpha=0.5)
    same = codec.encode(tensor, CONTEXT)
    assert codec.encode(tensor, CONTEXT) == same
    assert codec.encode(tensor, CodecContext(seed=1, counter=3)) != same
    assert codec.encode(tensor, CodecContext(seed=2, counter=2)) != same


def test_bytes_tell_which_elements_are_kept_so_any_context_decodes_them() -> None:
    tensor = gradient(50, 40)
    data = RandTopK(values=Raw32()).encode(tensor, CONTEXT)
    spec = TensorSpec(shape=tensor.shape)
    other = RandTopK(values=Raw32()).decode(data, spec, CodecContext(seed=9, counter=9))
    assert np.array_equal(other, RandTopK(values=Raw32()).decode(data, spec, CONTEXT))


@pytest.mark.parametrize("alpha", [0.0, 0.1, 1.0])
def test_fraction_1_zero_and_one_column_work(alpha: float) -> None:
    codec = RandTopK(fraction=1, values=Raw32(), alpha=alpha)
    tensor = gradient(9, 7)
    assert np.array_equal(decoded(codec, tensor), tensor)
    column = gradient(40, 1)
    assert np.array_equal(decoded(RandTopK(values=Raw32(), alpha=alpha), column), column)
    assert RandTopK(alpha=alpha).encode(np.zeros((3, 4), np.float32), CONTEXT) == b"\x04"
    assert decoded(RandTopK(alpha=alpha), gradient(1, 100)[0]).shape == (100,)


def test_parameters_and_nan_are_refused_by_name() -> None:
    for alpha in (-0.1, 1.1, "0.1"):
        with pytest.raises(CodecConfigError, match="alpha of codec 'randtopk' must be a number"):
            codec_from_config({"id": "randtopk", "alpha": alpha})
    with pytest.raises(CodecConfigError, match="fraction of codec 'randtopk' must be a number"):
        codec_from_config({"id": "randtopk", "fraction": 2})
    tensor = activation(3, 4)
    tensor[2, 1] = -np.inf
    with pytest.raises(EncodeError, match=r"'randtopk' refuses NaN and Inf: found -inf at .*2, 1"):
        RandTopK().encode(tensor, CONTEXT)


def test_the_config_has_every_parameter() -> None:
    assert list(RandTopK().config()) == ["id", "fraction", "per", "values", "alpha"]
    assert str(RandTopK(fraction=0.05, alpha=0.2)) == "randtopk(fraction=0.05,alpha=0.2)"
