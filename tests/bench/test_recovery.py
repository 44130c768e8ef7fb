from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from slstream.bench import recovery
from slstream.bench.recovery import (
    CheckpointCost,
    Event,
    PartyTrace,
    catching_up_events,
    checkpoint_cost,
    recovery_seconds,
    steps_per_second,
    training_events,
)
from slstream.errors import SlstreamError
from slstream.frames.header import FrameKind
from slstream.frames.topics import link_topic
from slstream.party.telemetry import PartyState, Progress
from tests.audit.small_log import SESSION, SmallLog, fence, frames, open_log


def event(at_ms: int, step: int, state: PartyState = PartyState.TRAINING) -> Event:
    return Event(
        at_ms=at_ms, progress=Progress(party="bob", session="s", state=state, epoch=1, step=step)
    )


def trace(*events: Event, first: tuple[int, ...] = (), killed: tuple[int, ...] = ()) -> PartyTrace:
    return PartyTrace(events=events, first_frames_ms=first, killed_ms=killed)


def test_a_rate_is_steps_over_time() -> None:
    events = [event(1000, 60), event(1400, 75), event(2000, 110)]
    assert steps_per_second(events) == 50.0


@pytest.mark.parametrize("events", [[], [event(1, 2)], [event(5, 2), event(5, 3)]])
def test_no_rate_without_time(events: list[Event]) -> None:
    with pytest.raises(SlstreamError, match="use more --steps"):
        steps_per_second(events)


def test_states_are_told_apart_and_the_first_steps_left_out() -> None:
    again = event(3, 51, PartyState.CATCHING_UP)
    live = event(4, 52)
    both = trace(event(1, 50), event(2, 10, PartyState.CATCHING_UP), again, live)
    assert training_events(both) == [live]
    assert catching_up_events(both) == [again]


def test_recovery_ends_with_the_next_new_frame() -> None:
    assert recovery_seconds(trace(first=(1000, 9500, 20000), killed=(7000, 15000))) == 2.5


@pytest.mark.parametrize(("first", "killed"), [((1000, 9500), ()), ((1000,), (7000,))])
def test_no_recovery_is_an_error(first: tuple[int, ...], killed: tuple[int, ...]) -> None:
    with pytest.raises(SlstreamError, match="was not killed, or sent nothing"):
        recovery_seconds(trace(first=first, killed=killed))


def test_a_checkpoint_costs_what_its_step_takes_longer() -> None:
    times, now = [], 0
    for step in range(1, 201):
        times.append(now)
        now += 10 + (30 if step % 50 == 0 else 0)  # written after the gradient of its step
    assert checkpoint_cost(times, 50) == CheckpointCost(
        step_ms=10.0, checkpoint_ms=30.0, slowdown_percent=6.0
    )


def test_new_frames_are_those_that_stand(tmp_path: Path) -> None:
    async def main() -> tuple[tuple[int, ...], tuple[int, ...]]:
        back = FrameKind.GRADIENT
        topic = link_topic("credit", "bob", "alice", SESSION)
        async with await open_log(tmp_path / "log") as log:
            small = SmallLog(log)
            await small.link("bob", "alice", frames(FrameKind.CONTROL, [(0, 0)]))
            await small.link("bob", "alice", frames(back, [(1, 1)], sequence=1))
            await small.link("bob", "alice", [fence(2)])
            await small.link("bob", "alice", frames(back, [(1, 1)], sequence=1, incarnation=2))
            await asyncio.sleep(0.01)
            await small.link("bob", "alice", frames(back, [(1, 2)], sequence=2, incarnation=2))
            stamps = [record.timestamp_ms for record in await log.read(topic, 0)]
            assert await recovery._first_frames_ms(log, topic) == (stamps[0], stamps[4])
            assert await recovery._gradients_ms(log, topic) == (stamps[1], stamps[4])
            return (stamps[3],), (stamps[4],)

    fenced, new = asyncio.run(main())
    assert fenced < new


@pytest.mark.timeout(300)
def test_a_small_run_reports_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recovery, "_WARM_UP", 5)
    monkeypatch.setattr(recovery, "BATCH", 8)
    report = recovery.run(steps=200)
    values = {result.name: result.value for result in report.results}
    assert {"replay_speed_ratio", "checkpoint_slowdown"} <= set(values)
    for party in ("bob", "alice"):
        assert values[f"{party}/recovery_s"] > 0.5  # a process starts and loads its libraries
        assert values[f"{party}/recomputed_steps_per_s"] > 0
    assert json.loads(report.to_json())["bench"] == "recovery"
