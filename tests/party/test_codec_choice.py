from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from slstream.codecs.chain import CodecChain
from slstream.codecs.defaults import DEFAULTS
from slstream.errors import TopologyError
from slstream.frames.header import FrameKind
from slstream.party.codec_choice import CodecChoice, check_codecs
from slstream.topology import CodecSection, Topology
from tests.party.small_session import document, topology, write_tables


def chosen(folder: Path, party: str, kind: FrameKind, **codec: Any) -> CodecChoice:
    return CodecChoice.of(kind, topology(folder, features=2, codec=codec), party)


@pytest.mark.parametrize("number", [1, 2, None])
def test_without_a_choice_the_default_chains_are_used(tmp_path: Path, number: int | None) -> None:
    section = {} if number is None else {"defaults": number}
    chains = DEFAULTS[max(DEFAULTS) if number is None else number]
    for kind, default in (
        (FrameKind.ACTIVATION, chains.forward),
        (FrameKind.GRADIENT, chains.backward),
        (FrameKind.EVALUATION, chains.evaluation),
    ):
        choice = chosen(tmp_path, "bob", kind, **section)
        assert choice.at(1) == choice.at(65_535) == CodecChain.from_config(default)
        assert len(choice.chains) == 1


def test_the_last_rule_that_applies_counts(tmp_path: Path) -> None:
    rules = [
        {"last_epoch": 1, "forward": "raw32", "backward": "raw32"},
        {"first_epoch": 3, "last_epoch": 4, "forward": "bf16"},
        {"party": "bob", "first_epoch": 4, "forward": ["q4row", "zstd"]},
    ]
    bob = chosen(tmp_path, "bob", FrameKind.ACTIVATION, forward="fp16", rules=rules)
    found = [str(bob.at(epoch)) for epoch in range(1, 7)]
    assert found == ["raw32", "fp16", "bf16", "q4row+zstd", "q4row+zstd", "q4row+zstd"]
    assert [str(each) for each in bob.chains] == ["raw32", "fp16", "bf16", "q4row+zstd"]
    carol = chosen(tmp_path, "carol", FrameKind.ACTIVATION, forward="fp16", rules=rules)
    assert [str(carol.at(e)) for e in range(1, 7)] == [*found[:3], "bf16", "fp16", "fp16"]
    assert [str(each) for each in carol.chains] == ["raw32", "fp16", "bf16"]
    backward = chosen(tmp_path, "bob", FrameKind.GRADIENT, backward="fp16", rules=rules)
    assert [str(backward.at(epoch)) for epoch in (1, 2)] == ["raw32", "fp16"]
    evaluation = chosen(tmp_path, "bob", FrameKind.EVALUATION, evaluation="bf16", rules=rules)
    assert str(evaluation.at(1)) == "bf16"


TENSORS = [{"name": "wide", "size": 1}, {"name": "fine", "size": 2}]


def test_a_rule_may_name_a_tensor(tmp_path: Path) -> None:
    federation = document(2)
    federation["parties"]["bob"]["base"]["tensors"] = TENSORS
    federation["codec"] = {
        "forward": "fp16",
        "backward": "bf16",
        "rules": [
            {"first_epoch": 2, "party": "bob", "tensor": "fine", "forward": ["q8row", "zstd"]},
            {"first_epoch": 3, "party": "bob", "forward": "q4row"},
            {"first_epoch": 4, "party": "bob", "tensor": "wide", "forward": "raw32"},
            {"first_epoch": 5, "party": "bob", "tensor": "fine", "forward": "raw32"},
        ],
    }
    write_tables(tmp_path)
    built = Topology.from_dict(federation, tmp_path)
    check_codecs(built)
    bob = CodecChoice.of(FrameKind.ACTIVATION, built, "bob")
    assert [str(bob.at(epoch)) for epoch in range(1, 7)] == [
        "fp16",
        "split(wide=fp16,fine=q8row+zstd)",
        "q4row",
        "split(wide=raw32,fine=q4row)",
        "split(wide=raw32,fine=raw32)",
        "split(wide=raw32,fine=raw32)",
    ]
    for kind, party in ((FrameKind.ACTIVATION, "carol"), (FrameKind.GRADIENT, "bob")):
        assert len(CodecChoice.of(kind, built, party).chains) == 1


@pytest.mark.parametrize(
    ("codec", "message"),
    [
        (
            {"rules": [{"party": "bob", "tensor": "fine", "forward": {"id": "ecsq", "stp": 1}}]},
            r"codec\.rules\.0\.forward: .*'stp'",
        ),
        ({"forward": {"id": "split", "tensors": []}}, r"codec\.forward: .*takes 1 to 16"),
        (
            {"forward": {"id": "split", "tensors": [{**TENSORS[0], "codec": [{"id": "fp16"}]}]}},
            r"codec\.forward: expected the codec of one tensor, found split: name the tensors in",
        ),
        (
            {
                "rules": [
                    {"party": "bob", "tensor": "wide", "forward": "delta"},
                    {"party": "bob", "tensor": "fine", "forward": {"id": "delta", "step": 2}},
                ]
            },
            r"codec\.rules: forward of bob: one tensor at most.*got wide, fine",
        ),
    ],
)
def test_a_codec_of_a_tensor_that_cannot_work_is_told(
    tmp_path: Path, codec: dict[str, Any], message: str
) -> None:
    federation = document(2, codec=codec)
    federation["parties"]["bob"]["base"]["tensors"] = TENSORS
    write_tables(tmp_path)
    with pytest.raises(TopologyError, match=message):
        check_codecs(Topology.from_dict(federation, tmp_path))


@pytest.mark.parametrize("direction", ["forward", "backward", "evaluation"])
def test_an_unknown_codec_is_named_with_its_place(tmp_path: Path, direction: str) -> None:
    check_codecs(topology(tmp_path))
    with pytest.raises(TopologyError, match=rf"codec\.{direction}: .*'raw31'"):
        check_codecs(topology(tmp_path, codec={direction: "raw31"}))
    rules = [{"forward": "raw32"}, {"last_epoch": 1, direction: "raw31"}]
    with pytest.raises(TopologyError, match=rf"codec\.rules\.1\.{direction}: .*'raw31'"):
        check_codecs(topology(tmp_path, codec={"rules": rules}))


@pytest.mark.parametrize("direction", ["forward", "evaluation"])
def test_a_codec_of_gradients_is_refused_elsewhere(tmp_path: Path, direction: str) -> None:
    check_codecs(topology(tmp_path, codec={"backward": "mask"}))
    with pytest.raises(TopologyError, match=rf"codec\.{direction}: mask.*under backward only"):
        check_codecs(topology(tmp_path, codec={direction: "mask"}))


def test_a_sender_may_take_any_chain_of_its_ladder() -> None:
    section = CodecSection.model_validate({"choice": "adaptive"})
    chains = CodecChoice.adaptive(FrameKind.GRADIENT, section).chains
    assert [str(each) for each in chains[:2]] == ["raw32", "fp16"]
    assert len(chains) == 7
