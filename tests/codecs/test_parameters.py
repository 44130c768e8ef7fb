from __future__ import annotations

import pytest

from slstream.codecs.ecsq import Ecsq
from slstream.codecs.registry import codec_from_config
from slstream.codecs.row_integers import Q4Row
from slstream.errors import CodecConfigError


def test_a_config_holds_every_parameter_in_canonical_form() -> None:
    written = codec_from_config({"id": "ecsq", "step": 2}).config()
    assert written == {"id": "ecsq", "step": 2.0, "rounding": "nearest"}
    assert isinstance(written["step"], float)
    assert Q4Row().config() == {"id": "q4row", "rounding": "nearest", "block": 0}


def test_codecs_are_equal_when_their_configs_are() -> None:
    assert Ecsq(step=1) == Ecsq(step=1.0)
    assert Ecsq(step=1) != Ecsq(step=2)
    assert codec_from_config({"id": "q4row"}) != codec_from_config({"id": "q8row"})


def test_short_text_names_what_is_not_default() -> None:
    assert str(Ecsq()) == "ecsq"
    assert str(Ecsq(step=2, rounding="stochastic")) == "ecsq(step=2,rounding=stochastic)"
    assert str(Q4Row(block=64)) == "q4row(block=64)"


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            {"id": "ecsq", "stepp": 1},
            "codec 'ecsq' has no parameter 'stepp' (parameters: step, rounding); "
            "did you mean 'step'?",
        ),
        ({"id": "raw32", "x": 1}, "codec 'raw32' has no parameter 'x' (parameters: none)"),
        (
            {"id": "ecsq", "step": 0},
            "step of codec 'ecsq' must be a number from 0.05 to 16; got 0",
        ),
        (
            {"id": "ecsq", "step": float("nan")},
            "step of codec 'ecsq' must be a number from 0.05 to 16; got nan",
        ),
        (
            {"id": "ecsq", "step": True},
            "step of codec 'ecsq' must be a number from 0.05 to 16; got True",
        ),
        (
            {"id": "ecsq", "step": "1"},
            "step of codec 'ecsq' must be a number from 0.05 to 16; got '1'",
        ),
        (
            {"id": "q8row", "rounding": "nearst"},
            "rounding of codec 'q8row' must be one of nearest, stochastic; got 'nearst'; "
            "did you mean 'nearest'?",
        ),
        (
            {"id": "q8row", "rounding": None},
            "rounding of codec 'q8row' must be one of nearest, stochastic; got None",
        ),
        (
            {"id": "q8row", "block": 4},
            "block of codec 'q8row' must be an integer from 8 to 65536; got 4",
        ),
        (
            {"id": "q8row", "block": False},
            "block of codec 'q8row' must be an integer from 8 to 65536; got False",
        ),
        (
            {"id": "q8row", "block": 64.0},
            "block of codec 'q8row' must be an integer from 8 to 65536; got 64.0",
        ),
        (
            {"id": "zstd", "level": 99},
            "level of codec 'zstd' must be an integer from 1 to 19; got 99",
        ),
    ],
)
def test_bad_parameters_are_refused_by_name(config: dict[str, object], message: str) -> None:
    with pytest.raises(CodecConfigError) as caught:
        codec_from_config(config)
    assert str(caught.value) == message


def test_a_config_of_another_codec_is_refused() -> None:
    with pytest.raises(CodecConfigError, match="expected a config of codec 'ecsq', got id 'lz4'"):
        Ecsq.from_config({"id": "lz4"})
