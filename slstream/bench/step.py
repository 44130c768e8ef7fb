"""What one synchronous step costs more than the same step in one process.

Two parties in two processes train an MLP with a cut of 64 x 256: the label party in this process,
the feature party in another. The fuse model notes the time of each forward pass; the interval
between two of them is a step. The same model, trained in one process, is timed in the same way; and
once more with a pause in each step as long as the label party waits, which is not counted: a
processor that has rested is slower for a while, and parties cannot but rest.

Over Kafka the yardstick is a bare echo: aiokafka's own producer and consumer in two processes,
with records of the sizes that a step's frames have. A broker that was just started takes three
times as long until its code is compiled, some thousand requests later, so it is warmed up first:
otherwise the session, which comes before the echo, would be measured on another broker than the
echo is.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median, quantiles
from time import perf_counter, sleep
from typing import ClassVar, TypeGuard

import numpy as np
import torch
from torch import nn

from slstream.bench import bare_kafka
from slstream.bench.report import Report, Result, at_most
from slstream.errors import SlstreamError
from slstream.party.centralised import train_centralised
from slstream.party.runtime import run_party
from slstream.party.summary import Summary, TimeSpent
from slstream.supervisor import write_topology
from slstream.topology import Topology
from slstream.transport.connect import open_transport

BATCH = 64
CUT = 256
COLUMNS = 32
OVERHEAD_MS = 5.0
KAFKA_OVERHEAD_MS = 10.0
KAFKA_ECHOES = 2.0
"""Overhead of a step over Kafka in terms of a bare echo, at most."""
_WARM_UP = 20
_BROKER_WARM_UP = 25
"""Echoes for each step that is timed."""
_END_S = 30.0


class TimedFuse(nn.Module):
    """An MLP that notes when it is applied to a training batch."""

    times: ClassVar[list[tuple[float, float]]] = []
    """When it was called, and when it went on."""
    pause_s: ClassVar[float] = 0.0
    """For which it rests before it goes on."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(CUT, 64), nn.ReLU(), nn.Linear(64, 1))

    def forward(self, cut: torch.Tensor) -> torch.Tensor:
        """Logits, float32 [batch, 1]."""
        if self.training:
            called = perf_counter()
            if self.pause_s:
                sleep(self.pause_s)
            self.times.append((called, perf_counter()))
        output: torch.Tensor = self.layers(cut)
        return output


def run(*, transport_url: str | None = None, steps: int = 200) -> Report:
    """Measure the overhead of a step.

    Args:
        transport_url: of the log; by default an embedded one in a temporary directory.
        steps: to time, besides a few to warm up.

    Raises:
        SlstreamError: a party failed.
    """
    with tempfile.TemporaryDirectory(prefix="slstream-bench-") as name:
        directory = Path(name)
        _write_tables(directory, BATCH * (steps + _WARM_UP))
        plain = _topology(directory, transport_url, None)
        if is_kafka(transport_url):
            asyncio.run(
                _echo_ms(transport_url, there=4096, back=4096, rounds=_BROKER_WARM_UP * steps)
            )
        before = _one_process(plain)
        summary, other, split = _session(plain, directory / "default")
        raw = _topology(directory, transport_url, "raw32")
        raw_summary, raw_other, split_raw = _session(raw, directory / "raw32")
        single = [*before, *_one_process(plain)]
        rested = _one_process(plain, pause_s=summary.time["alice"].waiting_s / summary.steps)
        echo, raw_echo = [], []
        if is_kafka(transport_url):
            echo = [_raw_echo(transport_url, "raw_echo_ms", summary, other, steps)]
            raw_echo = [
                _raw_echo(transport_url, "raw32_raw_echo_ms", raw_summary, raw_other, steps)
            ]
            asyncio.run(_remove(transport_url, [plain.federation, raw.federation]))
    step_ms, single_ms = median(split), median(single)
    done = summary.steps
    results = [
        at_most("step_overhead_ms", step_ms - single_ms, "ms", _target_ms(echo)),
        *echo,
        Result(name="step_ms", value=step_ms, unit="ms"),
        Result(name="step_p95_ms", value=quantiles(split, n=20)[-1], unit="ms"),
        Result(name="one_process_step_ms", value=single_ms, unit="ms"),
        Result(name="one_process_rested_step_ms", value=median(rested), unit="ms"),
        Result(name="raw32_step_overhead_ms", value=median(split_raw) - single_ms, unit="ms"),
        *raw_echo,
        *_parts("label", summary.time["alice"], done),
        *_parts("feature", other.time["bob"], done),
    ]
    codecs = [
        f"{t.kind}: {t.codec}, {t.wire_bytes / t.frames:.0f} bytes a frame"
        for t in (*summary.traffic, *other.traffic)
        if t.kind in ("activation", "gradient")
    ]
    return Report(
        bench="step",
        results=tuple(results),
        notes=(f"cut {BATCH}x{CUT}; median of {steps} steps", *codecs),
    )


def is_kafka(transport_url: str | None) -> TypeGuard[str]:
    """Whether brokers hold the log."""
    return transport_url is not None and transport_url.startswith("kafka:")


def _raw_echo(url: str, name: str, label: Summary, feature: Summary, rounds: int) -> Result:
    """A bare round trip of records as large as the frames of a session's steps."""
    there, back = (
        round(traffic.wire_bytes / traffic.frames)
        for summary, kind in ((feature, "activation"), (label, "gradient"))
        for traffic in summary.traffic
        if traffic.kind == kind
    )

    value = asyncio.run(_echo_ms(url, there=there, back=back, rounds=rounds))
    return Result(name=name, value=value, unit="ms")


async def _echo_ms(url: str, *, there: int, back: int, rounds: int) -> float:
    async with await open_transport(url) as log:
        return await bare_kafka.echo_ms(url, log, there=there, back=back, rounds=rounds)


async def _remove(url: str, federations: Sequence[str]) -> None:
    """Leave nothing on a broker that is for other things."""
    async with await open_transport(url) as log:
        for federation in federations:
            for topic in await log.topics(f"{federation}."):
                await log.delete_topic(topic)


def _target_ms(echo: list[Result]) -> float:
    return (
        min([KAFKA_OVERHEAD_MS, *(KAFKA_ECHOES * e.value for e in echo)]) if echo else OVERHEAD_MS
    )


def _parts(party: str, spent: TimeSpent, steps: int) -> list[Result]:
    """Means over all steps, without the session's opening."""
    return [
        Result(name=f"{party}_{part}_ms", value=1000 * seconds / steps, unit="ms")
        for part, seconds in (
            ("compute", spent.compute_s),
            ("codec", spent.codec_s),
            ("transport", spent.transport_s),
            ("waiting", spent.waiting_s),
        )
    ]


def _write_tables(directory: Path, rows: int) -> None:
    noise = np.random.default_rng(0)
    features = noise.normal(size=(rows, COLUMNS)).astype(np.float32)
    labels = (features[:, :4].sum(axis=1) > 0).astype(int)
    (directory / "alice.csv").write_text(
        "\n".join(["id,y", *(f"{row},{label}" for row, label in enumerate(labels))]) + "\n"
    )
    header = ",".join(["id", *(f"x{column}" for column in range(COLUMNS))])
    lines = (
        f"{row}," + ",".join(f"{v:.5f}" for v in values) for row, values in enumerate(features)
    )
    (directory / "bob.csv").write_text("\n".join([header, *lines]) + "\n")


def _topology(directory: Path, transport_url: str | None, codec: str | None) -> Topology:
    value: dict[str, object] = {
        # On a broker that others use, none that is there already.
        "federation": f"bench-step-{os.getpid()}-{codec or 'default'}",
        "parties": {
            "alice": {"role": "label", "data": {"path": "alice.csv", "label": "y"}},
            "bob": {
                "role": "feature",
                "data": {"path": "bob.csv"},
                "base": {
                    "model": "mlp",
                    "args": {"hidden": [CUT], "out": CUT, "out_activation": "relu"},
                },
            },
        },
        "fuse": {"model": f"{__name__}:TimedFuse"},
        "loss": "bce",
        "training": {"batch_size": BATCH, "epochs": 1, "validation": 0.0},
    }
    if transport_url is not None:
        value["transport"] = transport_url
    if codec is not None:
        value["codec"] = {"forward": codec, "backward": codec}
    return Topology.from_dict(value, root=directory)


def _session(topology: Topology, directory: Path) -> tuple[Summary, Summary, list[float]]:
    """Run a session; returns both parties' summaries and the intervals in ms."""
    file = write_topology(topology, directory)
    TimedFuse.times.clear()
    command = [sys.executable, "-m", "slstream", "party", "bob", "--topology", str(file)]
    bob = subprocess.Popen([*command, "--dir", str(directory), "--quiet"])
    try:
        summary = run_party("alice", topology, directory=directory)
        if bob.wait(timeout=_END_S) != 0:
            raise SlstreamError(f"the feature party ended with exit status {bob.returncode}")
    finally:
        bob.kill()
        bob.wait()
    other = Summary.from_json((directory / "bob" / "summary.json").read_text())
    return summary, other, _intervals_ms()


def _one_process(topology: Topology, *, pause_s: float = 0.0) -> list[float]:
    TimedFuse.times.clear()
    TimedFuse.pause_s = pause_s
    try:
        train_centralised(topology)
    finally:
        TimedFuse.pause_s = 0.0
    return _intervals_ms()


def _intervals_ms() -> list[float]:
    times = TimedFuse.times[_WARM_UP:]
    return [1000 * (later[0] - earlier[1]) for earlier, later in itertools.pairwise(times)]
