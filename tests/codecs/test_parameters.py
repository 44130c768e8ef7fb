from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass, field
from typing import ClassVar

import pytest

from slstream.codecs.contract import Buffer, CodecContext, FloatArray, TensorCodec, TensorSpec
from slstream.codecs.ecsq import Ecsq
from slstream.codecs.lz4 import Lz4
from slstream.codecs.parameters import require_codec, require_number
from slstream.codecs.raw32 import Raw32
from slstream.codecs.registry import codec_from_config
from slstream.codecs.row_integers import Q4Row, Q8Row
from slstream.errors import CodecConfigError, UnknownCodec


@dataclass(frozen=True, slots=True)
class Doubled(TensorCodec):
    """A codec around another, as a user may write one."""

    id: ClassVar[str] = "doubled"

    times: float = 2.0
    values: TensorCodec = field(default_factory=Q8Row)

    def __post_init__(self) -> None:
        require_number(self, "times", 1, 9)
        require_codec(self, "values")

    def encode(self, tensor: FloatArray, context: CodecContext) -> bytes:
        return self.values.encode(tensor, context)

    def decode(self, data: Buffer, spec: TensorSpec, context: CodecContext) -> FloatArray:
        return self.values.decode(data, spec, context)


def test_a_config_holds_every_parameter_in_canonical_form() -> None:
    written = codec_from_config({"id": "ecsq", "step": 2}).config()
    assert written == {"id": "ecsq", "step": 2.0, "rounding": "nearest"}
    assert isinstance(written["step"], float)
    assert Q4Row().config() == {"id": "q4row", "rounding": "nearest", "block": 0}


def test_codecs_are_equal_when_their_configs_are() -> None:
    assert Ecsq(step=1) == Ecsq(step=1.0)
    assert Ecsq(step=1) != Ecsq(step=2)
    assert codec_from_config({"id": "q4row"}) != codec_from_config({"id": "q8row"})


def test_a_parameter_without_a_default_is_asked_for() -> None:
    @dataclass(frozen=True)
    class Strict(Doubled):
        id: ClassVar[str] = "strict"
        seed: int = field(kw_only=True)

    assert Strict.from_config({"id": "strict", "seed": 3}).config()["seed"] == 3
    with pytest.raises(CodecConfigError, match=r"^codec 'strict' needs the parameter 'seed'$"):
        Strict.from_config({"id": "strict", "times": 3})


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
            "block of codec 'q8row' must be 0 or an integer from 8 to 65536; got 4",
        ),
        (
            {"id": "q8row", "block": False},
            "block of codec 'q8row' must be 0 or an integer from 8 to 65536; got False",
        ),
        (
            {"id": "q8row", "block": 64.0},
            "block of codec 'q8row' must be 0 or an integer from 8 to 65536; got 64.0",
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


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"id": "ecsq", "step": 2}, Ecsq(step=2.0)),
        ("q4row", Q4Row()),
        (Q4Row(block=64), Q4Row(block=64)),
    ],
)
def test_a_codec_inside_may_be_a_config_an_id_or_a_codec(
    values: object, expected: TensorCodec
) -> None:
    codec = Doubled.from_config({"id": "doubled", "values": values})
    assert codec.values == expected
    assert codec == Doubled(values=expected)
    assert hash(codec) == hash(Doubled(values=expected))


def test_a_codec_inside_is_a_nested_config_in_canonical_form() -> None:
    written = Doubled.from_config({"id": "doubled", "values": {"id": "ecsq", "step": 2}}).config()
    assert written == {
        "id": "doubled",
        "times": 2.0,
        "values": {"id": "ecsq", "step": 2.0, "rounding": "nearest"},
    }
    again = Doubled.from_config(json.loads(json.dumps(written)))
    assert again == Doubled(values=Ecsq(step=2.0))
    assert again.config() == written


def test_short_text_shows_a_codec_inside_that_is_not_the_default() -> None:
    assert str(Doubled()) == str(Doubled(values=Q8Row())) == "doubled"
    assert str(Doubled(values=Raw32())) == "doubled(values=raw32)"
    assert str(Doubled(times=3, values=Ecsq(step=2))) == "doubled(times=3,values=ecsq(step=2))"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (7, 'must be a codec of tensors, such as {"id": "q8row"}; got 7'),
        (None, 'must be a codec of tensors, such as {"id": "q8row"}; got None'),
        (
            "zstd",
            "must be a codec of tensors; 'zstd' is a codec of bytes: put it behind the outer codec "
            "in the chain",
        ),
        (
            Lz4(),
            "must be a codec of tensors; 'lz4' is a codec of bytes: put it behind the outer codec "
            "in the chain",
        ),
        (
            Doubled(),
            "must be a codec without another inside; 'doubled' has one as its 'values': keep one "
            "of the two",
        ),
        (
            {"id": "doubled", "times": 3, "values": {"id": "raw32"}},
            "must be a codec without another inside; 'doubled' has one as its 'values': keep one "
            "of the two",
        ),
    ],
)
def test_what_cannot_be_inside_is_refused_by_name(values: object, message: str) -> None:
    with pytest.raises(CodecConfigError) as caught:
        Doubled.from_config({"id": "doubled", "values": values})
    assert str(caught.value) == f"values of codec 'doubled' {message}"


def test_errors_of_a_codec_inside_name_the_outer_parameter_first() -> None:
    with pytest.raises(CodecConfigError) as caught:
        Doubled.from_config({"id": "doubled", "values": {"id": "ecsq", "step": 0}})
    assert str(caught.value) == (
        "values of codec 'doubled': step of codec 'ecsq' must be a number from 0.05 to 16; got 0"
    )
    with pytest.raises(UnknownCodec, match=r"^values of codec 'doubled': no codec .* 'escq' "):
        Doubled.from_config({"id": "doubled", "values": "escq"})
    with pytest.raises(CodecConfigError, match=r"^values of codec 'doubled': a codec config needs"):
        Doubled.from_config({"id": "doubled", "values": {}})


def test_a_document_that_nests_without_end_is_refused_before_it_is_followed() -> None:
    config: dict[str, object] = {"id": "raw32"}
    for _ in range(50_000):
        config = {"id": "doubled", "values": config}
    with pytest.raises(CodecConfigError, match="must be a codec without another inside"):
        Doubled.from_config(config)
    while isinstance(config, dict) and "values" in config:  # frees it without recursion
        config = config.pop("values")  # type: ignore[assignment]


def test_parameters_import_neither_the_registry_nor_a_codec() -> None:
    code = (
        "import sys, slstream.codecs.parameters\n"
        "sys.exit(' '.join(m for m in sys.modules if m.startswith('slstream.codecs.')"
        " and m != 'slstream.codecs.parameters') or 0)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.parametrize("codec_id", ["klt", "delta"])
def test_a_codec_with_a_state_inside_another_is_refused(codec_id: str) -> None:
    with pytest.raises(CodecConfigError, match=f"without a state; '{codec_id}' remembers"):
        codec_from_config({"id": "topk", "values": codec_id})
