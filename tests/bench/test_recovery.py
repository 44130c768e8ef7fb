from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from slstream.bench import recovery
from slstream.bench.recovery import (
    CheckpointCost,
    Event,
    FirstFrame,
    PartyTrace,
    catching_up_rate,
    checkpoint_cost,
    live_rate,
    next_frame,
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


def trace(
    *events: Event, first: tuple[tuple[int, int], ...] = (), killed: tuple[int, ...] = ()
) -> PartyTrace:
    found = tuple(FirstFrame(at_ms=at_ms, step=step) for at_ms, step in first)
    return PartyTrace(events=events, first_frames=found, killed_ms=killed)


def test_a_live_rate_is_steps_over_time() -> None:
    times = [*range(0, 5000, 100), *range(5000, 6000, 20)]
    assert live_rate(times) == 50.0


@pytest.mark.parametrize("times", [[], list(range(51)), [7] * 60])
def test_no_rate_without_time(times: list[int]) -> None:
    with pytest.raises(SlstreamError, match="use more --steps"):
        live_rate(times)


def test_recovery_ends_with_the_next_new_frame() -> None:
    seen = trace(first=((1000, 0), (9500, 301), (20000, 450)), killed=(7000, 15000))
    assert next_frame(seen) == FirstFrame(at_ms=9500, step=301)


@pytest.mark.parametrize(
    ("first", "killed"), [(((1000, 0), (9500, 7)), ()), (((1000, 0),), (7000,))]
)
def test_no_recovery_is_an_error(
    first: tuple[tuple[int, int], ...], killed: tuple[int, ...]
) -> None:
    with pytest.raises(SlstreamError, match="was not killed, or sent nothing"):
        next_frame(trace(first=first, killed=killed))


def test_catching_up_ends_with_the_next_new_frame() -> None:
    again = PartyState.CATCHING_UP
    events = (event(2000, 290), event(8000, 20, again), event(8500, 101, again), event(9600, 302))
    seen = trace(*events, first=((1000, 0), (9500, 301)), killed=(7000,))
    assert catching_up_rate(seen) == 200.0


def test_catching_up_that_was_not_seen_is_an_error() -> None:
    again = PartyState.CATCHING_UP
    events = (event(8000, 20, again), event(9500, 300, again), event(9600, 302))
    with pytest.raises(SlstreamError, match="use more --steps"):
        catching_up_rate(trace(*events, first=((9500, 301),), killed=(7000,)))


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
            assert await recovery._first_frames(log, topic) == (
                FirstFrame(at_ms=stamps[0], step=0),
                FirstFrame(at_ms=stamps[4], step=2),
            )
            assert await recovery._gradients_ms(log, topic) == (stamps[1], stamps[4])
            return (stamps[3],), (stamps[4],)

    fenced, new = asyncio.run(main())
    assert fenced < new


@pytest.mark.long
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
