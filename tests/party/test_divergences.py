"""A frame that is computed with other bits than were sent is recorded, and never sent."""

from __future__ import annotations

import asyncio
import hashlib
import json
from dataclasses import replace
from typing import Any

import pytest

from slstream.errors import Diverged
from slstream.frames.frame import Frame
from slstream.frames.topics import divergences_topic
from slstream.party.divergences import Divergences, differs, same_place
from slstream.party.link_reader import Place
from tests.party.link_ends import TOPIC, activation
from tests.party.memory_log import MemoryLog

COMPUTED = activation(b"bits", step=4)
LOGGED = Frame(
    kind=COMPUTED.kind,
    schema_id=COMPUTED.schema_id,
    incarnation=3,
    sequence=9,
    epoch=1,
    step=4,
    micro_batch=0,
    window=1,
    payload=b"bits",
)
PLACE = Place(topic=TOPIC, offset=12)


async def compare(found: Divergences, **logged: Any) -> None:

    await found.compare("s1", "alice", COMPUTED, replace(LOGGED, **logged), PLACE)


def recorded(log: MemoryLog) -> list[dict[str, Any]]:
    return [json.loads(value) for value in log.values(divergences_topic("small", "bob"))]


def test_equal_bits_are_no_divergence() -> None:
    log = MemoryLog()
    found = Divergences(log, "small", "bob")
    asyncio.run(compare(found))
    asyncio.run(compare(found, incarnation=1, sequence=2, window=0))
    assert found.count == 0
    assert log.records == {}


def test_other_bits_are_recorded_with_their_place() -> None:
    log = MemoryLog()
    found = Divergences(log, "small", "bob")
    asyncio.run(compare(found, payload=b"other"))
    assert found.count == 1
    assert recorded(log) == [
        {
            "session": "s1",
            "receiver": "alice",
            "topic": TOPIC,
            "offset": 12,
            "sequence": 9,
            "kind": "activation",
            "epoch": 1,
            "step": 4,
            "logged_sha256": hashlib.sha256(b"other").hexdigest(),
            "computed_sha256": hashlib.sha256(b"bits").hexdigest(),
        }
    ]
    asyncio.run(compare(found, schema_id=77))
    assert found.count == len(recorded(log)) == 2


@pytest.mark.parametrize(
    "changes", [{"kind": 2}, {"epoch": 2}, {"step": 5}, {"micro_batch": 1}], ids=str
)
def test_another_frame_altogether_ends_the_process(changes: dict[str, Any]) -> None:
    if "kind" in changes:
        changes = {"kind": type(LOGGED.kind)(changes["kind"])}
    log = MemoryLog()
    found = Divergences(log, "small", "bob")
    assert not same_place(COMPUTED, replace(LOGGED, **changes))
    assert differs(COMPUTED, replace(LOGGED, **changes))
    with pytest.raises(Diverged) as caught:
        asyncio.run(compare(found, **changes))
    text = str(caught.value)
    assert text.startswith(f"topic {TOPIC}, offset 12 holds ")
    assert "where this process would send activation of epoch 1, step 4 to alice" in text
    assert not caught.value.ends_session, "with the right code a new process can go on"
    assert log.records == {}
