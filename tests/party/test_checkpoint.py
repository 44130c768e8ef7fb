from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load, save

from slstream.errors import CheckpointError
from slstream.party.checkpoint import (
    FORMAT,
    Checkpoint,
    _digest,
    decode_checkpoint,
    encode_checkpoint,
)
from slstream.party.model_state import ModelState
from slstream.protocol.actions import Cursor
from tests.party.states import Part, assert_same, at, checkpoint

KEY = "slstream.checkpoint"


@pytest.mark.parametrize(
    "cursor",
    [
        Cursor(),
        Cursor(step=7),
        Cursor(history=({"auc": 1 / 3},)),
        Cursor(history=({}, {"auc": 1e-300}), ended="the last epoch is done"),
    ],
)
def test_everything_comes_back(cursor: Cursor) -> None:
    part = Part("adam")
    part.step(0)
    written = checkpoint(part.trained().capture(), cursor=cursor)
    read = decode_checkpoint(encode_checkpoint(written))
    assert read.standing == written.standing
    assert_same(read.model, written.model)


def test_equal_checkpoints_give_equal_bytes() -> None:
    part = Part("adam")
    part.step(0)
    first = encode_checkpoint(checkpoint(part.trained().capture()))
    assert encode_checkpoint(checkpoint(part.trained().capture())) == first
    assert encode_checkpoint(decode_checkpoint(first)) == first


def test_places_grow_in_the_course_of_a_session() -> None:
    places = [at(0, 0), at(0, 1), at(0, 100), at(1, 0), at(1, 1), at(12, 0)]
    assert sorted(places, key=lambda each: each.place) == places


SMALL = encode_checkpoint(
    Checkpoint(
        standing=at(1, 2),
        model=ModelState(
            tensors={
                name: tensor
                for name, tensor in Part("sgd").trained().capture().tensors.items()
                if "num_batches" not in name
            },
            optimizers={"base": {"groups": [{"lr": 0.01}], "numbers": {}}},
        ),
    )
)


def is_refused(data: bytes) -> bool:
    try:
        decode_checkpoint(data)
    except CheckpointError as error:
        return bool(str(error))
    return False


def test_every_truncation_is_refused() -> None:
    assert [size for size in range(len(SMALL)) if not is_refused(SMALL[:size])] == []


@pytest.mark.parametrize("mask", [0x01, 0x80, 0xFF])
def test_every_flipped_byte_is_refused(mask: int) -> None:
    accepted = [
        index
        for index in range(len(SMALL))
        if not is_refused(SMALL[:index] + bytes([SMALL[index] ^ mask]) + SMALL[index + 1 :])
    ]
    assert accepted == []


@given(st.lists(st.tuples(st.integers(0, len(SMALL) - 1), st.integers(0, 255)), min_size=1))
def test_whatever_is_edited_is_refused_or_means_the_same(edits: list[tuple[int, int]]) -> None:
    data = bytearray(SMALL)
    for index, value in edits:
        data[index] = value
    try:
        found = decode_checkpoint(bytes(data))
    except CheckpointError:
        return
    expected = decode_checkpoint(SMALL)
    assert found.standing == expected.standing
    assert_same(found.model, expected.model)


@given(st.binary(max_size=200))
def test_foreign_bytes_raise_one_error_only(data: bytes) -> None:
    assert is_refused(data)


def edited(change: dict[str, Any] | str, *, again: bool = True) -> bytes:
    """A checkpoint with another document, and with a digest that fits it when ``again``."""
    tensors = load(SMALL)
    size = int.from_bytes(SMALL[:8], "little")
    document = json.loads(json.loads(SMALL[8 : 8 + size])["__metadata__"][KEY])
    if isinstance(change, str):
        return save(tensors, {KEY: change})
    document |= change
    if again:
        del document["sha256"]
        document["sha256"] = _digest(document, tensors)
    return save(tensors, {KEY: json.dumps(document)})


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"format": FORMAT + 1}, "expected format 1, found 2; use the release of slstream that"),
        ({"format": None}, "expected format 1, found None"),
        ({"standing": {}}, "not a checkpoint: standing.federation: Field required"),
        ({"standing": 3}, "not a checkpoint: standing: Input should be"),
        ("null", "not a checkpoint"),
        ("[]", "not a checkpoint"),
        ('"text"', "not a checkpoint"),
        ("{}", "not a checkpoint: 'format'"),
        ("{", "not a checkpoint"),
        ("[" * 100_000, "not a checkpoint"),
    ],
)
def test_an_edited_document_is_refused_by_name(change: dict[str, Any] | str, text: str) -> None:
    with pytest.raises(CheckpointError, match=text):
        decode_checkpoint(edited(change))


def test_an_edit_without_a_digest_is_damage() -> None:
    with pytest.raises(CheckpointError, match=r"expected SHA-256 .*, found .*: it is damaged"):
        decode_checkpoint(edited({"optimizers": {}}, again=False))
    decode_checkpoint(edited({}))


def test_a_newer_format_is_told_also_when_it_is_sealed_otherwise() -> None:
    with pytest.raises(CheckpointError, match="expected format 1, found 2"):
        decode_checkpoint(edited({"format": 2}, again=False))


def test_weights_are_no_checkpoint() -> None:
    tensors = load(SMALL)
    for data in (save(tensors), save(tensors, {"other": "x"})):
        with pytest.raises(CheckpointError, match="not a checkpoint"):
            decode_checkpoint(data)


def test_the_digest_covers_tensors_of_the_same_bytes() -> None:
    """Another name, shape or type of the same bytes is another state."""
    weight = decode_checkpoint(SMALL).model.tensors["model.base.0.weight"]
    found = {
        _digest({}, tensors)
        for tensors in (
            {"a": weight},
            {"b": weight},
            {"a": weight.reshape(2, 6)},
            {"a": weight.view(torch.int32)},
        )
    }
    assert len(found) == 4
