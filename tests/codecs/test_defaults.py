from __future__ import annotations

import json

import numpy as np
import pytest

from slstream.codecs.chain import CodecChain
from slstream.codecs.contract import CodecContext
from slstream.codecs.defaults import DEFAULT_BACKWARD, DEFAULT_EVALUATION, DEFAULT_FORWARD
from slstream.testing.codecs import activation, gradient

DEFAULTS = [DEFAULT_FORWARD, DEFAULT_BACKWARD, DEFAULT_EVALUATION]


@pytest.mark.parametrize("config", DEFAULTS)
def test_defaults_are_canonical_configs(config: list[dict[str, object]]) -> None:
    assert CodecChain.from_config(config).config() == config
    assert json.loads(json.dumps(config)) == config


def test_gradients_are_rounded_without_bias_and_activations_to_nearest() -> None:
    assert DEFAULT_BACKWARD[0]["rounding"] == "stochastic"
    assert DEFAULT_FORWARD[0]["rounding"] == "nearest"
    assert DEFAULT_EVALUATION[0]["rounding"] == "nearest"


@pytest.mark.parametrize("rows", [128, 512])
def test_a_training_step_takes_20_times_fewer_bytes_with_its_framing(rows: int) -> None:
    framing = 170
    forward, backward = activation(rows, 64), gradient(rows, 64)
    sent = sum(
        len(CodecChain.from_config(config).encode(tensor, CodecContext())) + framing
        for config, tensor in ((DEFAULT_FORWARD, forward), (DEFAULT_BACKWARD, backward))
    )
    assert (forward.nbytes + backward.nbytes + 2 * framing) / sent >= 20
    assert np.all(np.isfinite(forward))
