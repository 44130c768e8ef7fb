"""How soon a killed party goes on, how fast it catches up, and what checkpoints cost.

Two parties train an MLP with a cut of 64 x 256, every one in a process of its own, in one epoch:

- undisturbed, with a checkpoint every 50 steps: steps after which one is written are longer than
  the others of the same run by what it costs;
- so again, and the feature party is killed at half of the steps, the label party at three quarters:
  how soon does each send its next new frame?
- with the same kills and without checkpoints: how fast does a party compute again all that it had
  done?

All times but those of the kills are those at which the log took a record.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from time import time_ns

import numpy as np

from slstream.bench.report import Report, Result, at_least, at_most
from slstream.errors import SlstreamError
from slstream.frames.frame import Frame
from slstream.frames.header import FrameKind
from slstream.frames.link import FrameReader
from slstream.frames.topics import link_topic, telemetry_topic
from slstream.party.address import log_url
from slstream.party.telemetry import PartyState, Progress
from slstream.soak.kill_plan import Kill, KillKind
from slstream.soak.trial import run_with_kills
from slstream.topology import Topology
from slstream.transport.connect import open_transport
from slstream.transport.contract import Transport

BATCH = 64
CUT = 256
COLUMNS = 32
EVERY_STEPS = 50
SLOWDOWN_PERCENT = 5.0
REPLAY_RATIO = 1.0
_NEVER = 10**9
_WARM_UP = 50
"""Steps at the start that are in no rate: libraries still make themselves ready."""

LABEL, FEATURE = "alice", "bob"
_PEER = {LABEL: FEATURE, FEATURE: LABEL}
_OPENING_FRAMES = {FEATURE: 3, LABEL: 2}
"""What a party sends before its first training step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """A party's progress, and when the log took it."""

    at_ms: int
    progress: Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstFrame:
    """The first frame of a process that stands, and when the log took it."""

    at_ms: int
    step: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PartyTrace:
    """What a run's log tells of one party."""

    events: tuple[Event, ...]
    first_frames: tuple[FirstFrame, ...]
    """By process, oldest first; those that sent nothing have none."""
    killed_ms: tuple[int, ...]
    """When it was killed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunTrace:
    """One run."""

    began_ms: int
    parties: dict[str, PartyTrace]
    gradients_ms: tuple[int, ...]
    """By step, from the first: when its gradient came."""


def run(*, steps: int = 1500) -> Report:
    """Measure recovery and checkpoints.

    Args:
        steps: of each run, at least 200.

    Raises:
        SlstreamError: a party failed.
    """
    with tempfile.TemporaryDirectory(prefix="slstream-bench-") as name:
        directory = Path(name)
        _write_tables(directory, BATCH * steps)
        undisturbed = _run(directory, "undisturbed", EVERY_STEPS)
        plan = _plan(steps)
        recomputed = _run(directory, "recomputed", _NEVER, plan)
        recovered = _run(directory, "recovered", EVERY_STEPS, plan)
    families, ratios = [], []
    for party in (FEATURE, LABEL):
        results, ratio = _party_results(party, recomputed, recovered)
        families += results
        ratios.append(ratio)
    cost = checkpoint_cost(undisturbed.gradients_ms, EVERY_STEPS)
    return Report(
        bench="recovery",
        results=(
            *families,
            at_least("replay_speed_ratio", min(ratios), "x", REPLAY_RATIO),
            at_most("checkpoint_slowdown", cost.slowdown_percent, "%", SLOWDOWN_PERCENT),
            Result(name="checkpoint_ms", value=cost.checkpoint_ms, unit="ms"),
            Result(name="step_ms", value=cost.step_ms, unit="ms"),
        ),
        notes=(
            f"cut {BATCH}x{CUT}; {steps} steps in one epoch; a checkpoint every {EVERY_STEPS}",
            "recovery: from SIGKILL to the party's next new frame, with checkpoints",
            "start-up: from the start of an undisturbed run to the party's first frame",
            "recomputed: of what the log holds already, all from the first step on",
        ),
    )


def _party_results(
    party: str, recomputed: RunTrace, recovered: RunTrace
) -> tuple[list[Result], float]:
    """A party's numbers, and its catching up in terms of its live training."""
    slow, quick = recomputed.parties[party], recovered.parties[party]
    startup_s = (quick.first_frames[0].at_ms - recovered.began_ms) / 1000
    recovery_s = (next_frame(quick).at_ms - quick.killed_ms[0]) / 1000
    first_kill_ms = min(ms for each in recomputed.parties.values() for ms in each.killed_ms)
    live = live_rate([ms for ms in recomputed.gradients_ms if ms < first_kill_ms])
    again = catching_up_rate(slow)
    results = [
        Result(name=f"{party}/recovery_s", value=recovery_s, unit="s"),
        Result(name=f"{party}/startup_s", value=startup_s, unit="s"),
        Result(name=f"{party}/recovery_to_startup_x", value=recovery_s / startup_s, unit="x"),
        Result(name=f"{party}/live_steps_per_s", value=live, unit="steps/s"),
        Result(name=f"{party}/recomputed_steps_per_s", value=again, unit="steps/s"),
    ]
    return results, again / live


def next_frame(trace: PartyTrace) -> FirstFrame:
    """With which a party went on after it was killed for the first time.

    Raises:
        SlstreamError: it was not killed, or sent nothing afterwards.
    """
    for killed_ms in trace.killed_ms[:1]:
        for frame in trace.first_frames:
            if frame.at_ms > killed_ms:
                return frame
    raise SlstreamError("the party was not killed, or sent nothing afterwards; use more --steps")


def live_rate(gradients_ms: Sequence[int]) -> float:
    """Steps a second, without the first ones.

    Args:
        gradients_ms: by step, from the first: when its gradient came.
    """
    times = gradients_ms[_WARM_UP:]
    if len(times) < 2 or times[-1] <= times[0]:
        raise SlstreamError(
            f"expected gradients at two times, found {len(times)}; use more --steps"
        )
    return 1000 * (len(times) - 1) / (times[-1] - times[0])


def catching_up_rate(trace: PartyTrace) -> float:
    """Steps a second that a party computed again after it was killed, without the first ones.

    Raises:
        SlstreamError: it was over before it was reported.
    """
    end = next_frame(trace)
    for event in trace.events:
        progress = event.progress
        again = progress.state is PartyState.CATCHING_UP and progress.step > _WARM_UP
        if again and event.at_ms < end.at_ms and progress.step < end.step:
            return 1000 * (end.step - progress.step) / (end.at_ms - event.at_ms)
    raise SlstreamError("expected a party to be seen while it catches up; use more --steps")


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointCost:
    """What checkpoints cost the steps of one run."""

    step_ms: float
    """Mean of the steps without one."""
    checkpoint_ms: float
    """What those with one take longer, on average."""
    slowdown_percent: float
    """What all steps take longer, on average."""


def checkpoint_cost(gradients_ms: Sequence[int], every_steps: int) -> CheckpointCost:
    """Compare the steps after which both parties write a checkpoint with the others.

    Args:
        gradients_ms: by step, from the first: when its gradient came.
        every_steps: between two checkpoints; there must be two after the first steps.
    """
    with_one: list[int] = []
    without: list[int] = []
    for step in range(_WARM_UP, len(gradients_ms)):
        # The checkpoint of a step is written between its gradient and the next one.
        took = gradients_ms[step] - gradients_ms[step - 1]
        (without if step % every_steps else with_one).append(took)
    step_ms = fmean(without)
    checkpoint_ms = fmean(with_one) - step_ms
    return CheckpointCost(
        step_ms=step_ms,
        checkpoint_ms=checkpoint_ms,
        slowdown_percent=100 * checkpoint_ms / (every_steps * step_ms),
    )


def _plan(steps: int) -> tuple[Kill, ...]:
    return tuple(
        Kill(
            sender=party,
            receiver=_PEER[party],
            frames=_OPENING_FRAMES[party] + int(share * steps),
            kind=KillKind.ONE,
            party=party,
            latest=0,
        )
        for party, share in ((FEATURE, 0.5), (LABEL, 0.75))
    )


def _run(directory: Path, name: str, every_steps: int, plan: Sequence[Kill] = ()) -> RunTrace:
    topology, folder = _topology(directory, every_steps), directory / name
    began_ms = time_ns() // 1_000_000
    summary, done = run_with_kills(topology, plan, directory=folder)
    if len(done) < len(plan):
        raise SlstreamError(f"expected {len(plan)} kills, found {len(done)}; use more --steps")
    killed = {
        party: tuple(kill.at_ms for kill in done if kill.planned.party == party) for party in _PEER
    }
    return asyncio.run(_trace(topology, folder, summary.session, began_ms, killed))


async def _trace(
    topology: Topology,
    directory: Path,
    session: str,
    began_ms: int,
    killed: dict[str, tuple[int, ...]],
) -> RunTrace:
    async with await open_transport(log_url(topology, directory), read_only=True) as log:
        parties = {}
        for party, peer in _PEER.items():
            link = link_topic(topology.federation, party, peer, session)
            parties[party] = PartyTrace(
                events=await _events(log, telemetry_topic(topology.federation, party)),
                first_frames=await _first_frames(log, link),
                killed_ms=killed[party],
            )
        gradients_ms = await _gradients_ms(
            log, link_topic(topology.federation, LABEL, FEATURE, session)
        )
    return RunTrace(began_ms=began_ms, parties=parties, gradients_ms=gradients_ms)


async def _events(log: Transport, topic: str) -> tuple[Event, ...]:
    events: list[Event] = []
    offset = 0
    while records := await log.read(topic, offset):
        events += [
            Event(at_ms=record.timestamp_ms, progress=Progress.from_json(record.value))
            for record in records
        ]
        offset = records[-1].offset + 1
    return tuple(events)


async def _first_frames(log: Transport, topic: str) -> tuple[FirstFrame, ...]:
    last, found = 0, []
    async for frame, at_ms in _frames(log, topic):
        if frame.incarnation > last:
            last = frame.incarnation
            found.append(FirstFrame(at_ms=at_ms, step=frame.step))
    return tuple(found)


async def _gradients_ms(log: Transport, topic: str) -> tuple[int, ...]:
    return tuple(
        [ms async for frame, ms in _frames(log, topic) if frame.kind is FrameKind.GRADIENT]
    )


async def _frames(log: Transport, topic: str) -> AsyncIterator[tuple[Frame, int]]:
    """The standing frames of a link, each with the time of its last record."""
    reader, offset = FrameReader(), 0
    while records := await log.read(topic, offset):
        for record in records:
            frame = reader.push(record.value)
            if frame is not None:
                yield frame, record.timestamp_ms
        offset = records[-1].offset + 1


def _write_tables(directory: Path, rows: int) -> None:
    noise = np.random.default_rng(0)
    features = noise.normal(size=(rows, COLUMNS)).astype(np.float32)
    labels = (features[:, :4].sum(axis=1) > 0).astype(int)
    (directory / f"{LABEL}.csv").write_text(
        "\n".join(["id,y", *(f"{row},{label}" for row, label in enumerate(labels))]) + "\n"
    )
    header = ",".join(["id", *(f"x{column}" for column in range(COLUMNS))])
    lines = (
        f"{row}," + ",".join(f"{v:.3f}" for v in values) for row, values in enumerate(features)
    )
    (directory / f"{FEATURE}.csv").write_text("\n".join([header, *lines]) + "\n")


def _topology(directory: Path, every_steps: int) -> Topology:
    value: dict[str, object] = {
        "federation": "bench-recovery",
        "parties": {
            LABEL: {"role": "label", "data": {"path": f"{LABEL}.csv", "label": "y"}},
            FEATURE: {
                "role": "feature",
                "data": {"path": f"{FEATURE}.csv"},
                "base": {
                    "model": "mlp",
                    "args": {"hidden": [CUT], "out": CUT, "out_activation": "relu"},
                },
            },
        },
        "fuse": {"model": "mlp", "args": {"hidden": [64], "out": 1}},
        "loss": "bce",
        "training": {"batch_size": BATCH, "epochs": 1, "validation": 0.0},
        "checkpoints": {"every_steps": every_steps, "keep_every_epochs": 0},
    }
    return Topology.from_dict(value, root=directory)
