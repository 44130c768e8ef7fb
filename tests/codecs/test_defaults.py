from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np
import pytest

from slstream.codecs.chain import CodecChain
from slstream.codecs.contract import CodecContext
from slstream.codecs.defaults import DEFAULTS
from slstream.testing.codecs import activation, gradient

NEWEST = DEFAULTS[max(DEFAULTS)]


@pytest.mark.parametrize("number", DEFAULTS)
def test_defaults_are_canonical_configs(number: int) -> None:
    for config in asdict(DEFAULTS[number]).values():
        assert CodecChain.from_config(config).config() == list(config)
        assert json.loads(json.dumps(config)) == list(config)


@pytest.mark.parametrize("number", DEFAULTS)
def test_gradients_are_rounded_without_bias_and_activations_to_nearest(number: int) -> None:
    assert DEFAULTS[number].backward[0]["rounding"] == "stochastic"
    assert DEFAULTS[number].forward[0]["rounding"] == "nearest"
    assert DEFAULTS[number].evaluation[0]["rounding"] == "nearest"


def test_old_defaults_stay_as_sessions_have_them() -> None:
    ecsq = [config[0] for config in asdict(DEFAULTS[1]).values()]
    assert [(each["id"], each["step"]) for each in ecsq] == [
        ("ecsq", 0.75),
        ("ecsq", 1.5),
        ("ecsq", 0.35),
    ]


@pytest.mark.parametrize(("rows", "times"), [(128, 20), (512, 25)])
def test_a_training_step_takes_many_times_fewer_bytes_with_its_framing(
    rows: int, times: float
) -> None:
    framing = 170
    forward, backward = activation(rows, 64), gradient(rows, 64)
    sent = sum(
        len(CodecChain.from_config(config).encode(tensor, CodecContext())) + framing
        for config, tensor in ((NEWEST.forward, forward), (NEWEST.backward, backward))
    )
    assert (forward.nbytes + backward.nbytes + 2 * framing) / sent >= times
    assert np.all(np.isfinite(forward))
