from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slstream.party.telemetry import PartyState, Progress

EVENT = Progress(
    party="bob",
    session="s1",
    state=PartyState.TRAINING,
    epoch=2,
    epochs=5,
    step=3,
    steps=4,
    loss=0.5,
    metrics={"auc": 0.75},
    raw_bytes=1000,
    wire_bytes=10,
    waiting_for="alice",
    waiting_s=1.5,
    message="hello",
)


def test_events_round_trip() -> None:
    assert Progress.from_json(EVENT.to_json()) == EVENT
    least = Progress(party="bob", session="", state=PartyState.OPENING)
    assert Progress.from_json(least.to_json()) == least


def test_unknown_keys_are_ignored() -> None:
    document = {**json.loads(EVENT.to_json()), "colour": [1, 2]}
    assert Progress.from_json(json.dumps(document).encode()) == EVENT


@pytest.mark.parametrize(
    "changes",
    [
        {"party": 5},
        {"session": None},
        {"state": "sleeping"},
        {"state": ["training"]},
        {"epoch": "2"},
        {"epoch": -1},
        {"epoch": True},
        {"step": 2**70},
        {"raw_bytes": 1.5},
        {"metrics": [0.5]},
        {"metrics": {"auc": "high"}},
        {"loss": "low"},
        {"waiting_s": None},
        {"message": {"a": 1}},
    ],
)
def test_values_of_other_types_are_refused(changes: dict[str, Any]) -> None:
    document = {**json.loads(EVENT.to_json()), **changes}
    with pytest.raises(ValueError, match=r"progress event|PartyState"):
        Progress.from_json(json.dumps(document).encode())


@pytest.mark.parametrize("missing", ["party", "session", "state"])
def test_a_missing_value_is_refused(missing: str) -> None:
    document = json.loads(EVENT.to_json())
    del document[missing]
    with pytest.raises(ValueError, match=missing):
        Progress.from_json(json.dumps(document).encode())


@pytest.mark.parametrize("data", [b"", b"[1]", b"null", b"\xff", b"[" * 200_000, b"9" * 5000])
def test_garbage_is_refused_in_one_way(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        Progress.from_json(data)


@given(st.binary(max_size=200))
def test_any_bytes_raise_nothing_else(data: bytes) -> None:
    with suppress(ValueError):
        Progress.from_json(data)
