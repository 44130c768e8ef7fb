from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slstream.audit import link_tally
from slstream.audit.link_tally import LinkCounter, LinkTally
from slstream.frames.header import FrameKind
from slstream.frames.link import FrameRecord
from slstream.frames.topics import LinkName
from slstream.frames.wire_size import wire_size
from slstream.transport.contract import StoredRecord
from tests.audit.small_log import fence, frames

LINK = LinkName(federation="credit", sender="bob", receiver="alice", session="s")
UP, BACK = FrameKind.ACTIVATION, FrameKind.GRADIENT


def tally(records: Sequence[FrameRecord | bytes]) -> LinkTally:
    counter = LinkCounter(LINK)
    for offset, record in enumerate(records):
        plain = isinstance(record, bytes)
        counter.push(
            StoredRecord(
                topic="t",
                partition=0,
                offset=offset,
                timestamp_ms=1000 + offset,
                value=record if isinstance(record, bytes) else record.value,
                key=None if plain else b"bob",
                headers=(),
            )
        )
    return counter.tally


def test_counts_frames_and_steps() -> None:
    records = [
        *frames(FrameKind.CONTROL, [(0, 0)]),
        *frames(BACK, [(1, 1), (1, 2), (2, 1)], sequence=1),
        *frames(FrameKind.EVALUATION, [(2, 9)], sequence=4),
    ]
    found = tally(records)
    assert (found.records, found.frames, found.epoch, found.steps) == (5, 5, 2, 3)
    assert found.incarnations == {1}
    assert (found.fences, found.duplicates, found.fenced, found.abandoned) == (0, 0, 0, 0)
    assert (found.first_ms, found.last_ms, found.problem) == (1000, 1004, None)


def test_micro_batches_of_a_step_are_one_step() -> None:
    assert tally(frames(BACK, [(1, 1), (1, 1), (1, 2), (1, 2)])).steps == 2


def test_only_a_gradient_makes_a_step() -> None:
    assert tally(frames(UP, [(1, 1), (1, 2)])).steps == 0


def test_bytes_are_those_of_the_wire() -> None:
    (record,) = frames(BACK, [(1, 1)])
    stored = FrameRecord(key=b"bob", headers=(), value=record.value)
    assert tally([record, record]).wire_bytes == 2 * wire_size(stored)


def test_tells_a_restart_from_what_went_wrong_at_it() -> None:
    first = frames(BACK, [(1, 1), (1, 2)])
    large = frames(BACK, [(1, 3)], sequence=2, payload=bytes(1000))
    again = frames(BACK, [(1, 2), (1, 3), (1, 4)], incarnation=3, sequence=1)
    late = frames(BACK, [(1, 4)], sequence=3)
    found = tally([*first, large[0], fence(3), *again, *late])
    assert found.incarnations == {1, 3}
    assert found.fences == 1
    assert found.duplicates == 1  # step 2 again
    assert found.abandoned == 1  # the half of step 3
    assert found.fenced == 1  # the late step 4 of the first process
    assert (found.frames, found.steps) == (4, 4)
    assert found.records == 8


def test_a_new_incarnation_that_goes_on_without_a_fence_repeats_nothing() -> None:
    again = frames(BACK, [(1, 2)], incarnation=2, sequence=1)
    found = tally([*frames(BACK, [(1, 1)]), *again])
    assert (found.fences, found.duplicates, found.incarnations) == (0, 0, frozenset({1, 2}))


def test_bytes_that_are_no_frame_mark_the_link_and_end_the_fold() -> None:
    records = frames(BACK, [(1, 1), (1, 2)])
    found = tally([records[0], b"no frame", records[1]])
    assert found.problem is not None
    assert found.problem.startswith("topic t, offset 1: TruncatedFrame: expected a frame header")
    assert (found.records, found.frames, found.steps) == (3, 1, 1)


def test_a_hole_marks_the_link() -> None:
    found = tally(frames(BACK, [(1, 1)], sequence=4))
    assert found.problem is not None
    assert "SequenceError" in found.problem


def test_incarnations_are_told_apart_up_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_tally, "MOST_INCARNATIONS", 3)
    records = frames(BACK, [(1, 1)])
    found = tally([*records, *(fence(n) for n in range(2, 9))])
    assert len(found.incarnations) == 3
    assert found.fences == 7


@given(st.lists(st.binary(max_size=80), max_size=6))
def test_any_bytes_give_a_tally(values: list[bytes]) -> None:
    found = tally(values)
    assert found.records == len(values)
    assert found.frames + found.duplicates + found.fenced + found.fences <= found.records
