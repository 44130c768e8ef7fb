"""One training through links: the feature parties at their far ends, the label party at the log.

What happened when is read from the log afterwards: each record has the time at which the log took
it. The clock starts when the last party has said that it is ready, so the loading of tables and
libraries, which knows no codec, is left out; the first batch and all that follows is in.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from slstream.bench import shaped_party
from slstream.bench.shaped_link import Link
from slstream.errors import ModelError
from slstream.frames.frame import Frame
from slstream.frames.header import FrameKind
from slstream.frames.link import FrameReader, choice_of
from slstream.frames.topics import link_topic
from slstream.party.address import log_url
from slstream.party.summary import Summary
from slstream.protocol.early_stop import LOWER_IS_BETTER
from slstream.protocol.messages import Message, Ready, Verdict, decode_message
from slstream.supervisor import run as run_session
from slstream.topology import Topology
from slstream.transport.connect import open_transport
from slstream.transport.contract import StoredRecord, Transport


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """What the label party measured after an epoch."""

    at_s: float
    """Since the start of the training."""
    metrics: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """A party's own choice of another codec."""

    at: float
    """When the log took the first record with it, as Unix time."""
    sender: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ShapedRun:
    """A training that is over."""

    summary: Summary
    evaluations: tuple[Evaluation, ...]
    """By epoch."""
    choices: tuple[Chosen, ...] = ()
    """Those of every link, in the order of their times."""
    ended_at: float = 0.0
    """Unix time of the last evaluation."""

    @property
    def training_s(self) -> float:
        """To the last evaluation."""
        return self.evaluations[-1].at_s

    @property
    def steps_per_s(self) -> float:
        """Evaluations included."""
        return self.summary.steps / self.training_s

    @property
    def bytes_per_step(self) -> float:
        """On the wire, everything counted."""
        return self.summary.wire_bytes / self.summary.steps

    def best(self, metric: str) -> float:
        """The best value after any epoch."""
        choose = min if metric in LOWER_IS_BETTER else max
        return choose(each.metrics[metric] for each in self.evaluations)

    def first_epoch(self, metric: str, target: float) -> int | None:
        """The first one, from 1, after which the target was reached; ``None``: it never was."""
        for epoch, each in enumerate(self.evaluations, start=1):
            value = each.metrics[metric]
            if value <= target if metric in LOWER_IS_BETTER else value >= target:
                return epoch
        return None

    def time_to(self, metric: str, target: float) -> float | None:
        """Seconds to that epoch's evaluation."""
        epoch = self.first_epoch(metric, target)
        return None if epoch is None else self.evaluations[epoch - 1].at_s


def train(topology: Topology, link: Link, *, directory: Path) -> ShapedRun:
    """Train a federation whose feature parties are each at the far end of a link of its own.

    Args:
        topology: of a log that holds nothing of this federation.
        link: what each of the links is like.
        directory: of the run.

    Raises:
        SlstreamError: a party failed.
    """

    def program(party: str) -> Sequence[str]:
        if party == topology.label_party.id:
            return ("-m", "slstream", "party", party)
        return shaped_party.command(party, link)

    try:
        # A party that is started again would spoil the times.
        summary = run_session(topology, directory=directory, restarts=0, program=program)
        run = asyncio.run(_read_run(topology, directory, summary))
    finally:
        if topology.transport is not None:
            asyncio.run(_remove(topology.transport, topology.federation))
    metric = topology.metrics[0]
    if not run.evaluations or any(metric not in each.metrics for each in run.evaluations):
        raise ModelError(
            f"seed {topology.seed}: expected the metric {metric} after every epoch, found an epoch "
            "without it: there are no validation rows, or they do not define it, or its outputs "
            "are not finite"
        )
    return run


async def _read_run(topology: Topology, directory: Path, summary: Summary) -> ShapedRun:
    session = summary.session
    label, peers = topology.label_party.id, [party.id for party in topology.feature_parties]
    async with await open_transport(log_url(topology, directory), read_only=True) as log:
        to_label = {p: link_topic(topology.federation, p, label, session) for p in peers}
        to_peers = [link_topic(topology.federation, label, p, session) for p in peers]
        ready_ms = [
            at_ms
            for topic in to_label.values()
            async for message, at_ms in _messages(log, topic)
            if isinstance(message, Ready)
        ]
        verdicts = [
            (message.metrics, at_ms)
            async for message, at_ms in _messages(log, to_peers[0])
            if isinstance(message, Verdict)
        ]
        senders = [*to_label.items(), *((label, topic) for topic in to_peers)]
        choices = [each for sender, topic in senders async for each in _choices(log, topic, sender)]
    return ShapedRun(
        summary=summary,
        evaluations=tuple(
            Evaluation(at_s=(at_ms - max(ready_ms)) / 1000, metrics=metrics)
            for metrics, at_ms in verdicts
        ),
        choices=tuple(sorted(choices, key=lambda each: each.at)),
        ended_at=max((at_ms for _, at_ms in verdicts), default=0) / 1000,
    )


async def _choices(log: Transport, topic: str, sender: str) -> AsyncIterator[Chosen]:
    async for _, record in _frames(log, topic):
        if reason := choice_of(record.headers):
            yield Chosen(at=record.timestamp_ms / 1000, sender=sender, reason=reason)


async def _messages(log: Transport, topic: str) -> AsyncIterator[tuple[Message, int]]:
    """A link's control messages, each with the time of its last record in ms."""
    async for frame, record in _frames(log, topic):
        if frame.kind is FrameKind.CONTROL:
            yield decode_message(frame.payload), record.timestamp_ms


async def _frames(log: Transport, topic: str) -> AsyncIterator[tuple[Frame, StoredRecord]]:
    """A link's frames, each with its last record."""
    reader, offset = FrameReader(), 0
    while records := await log.read(topic, offset):
        for record in records:
            frame = reader.push(record.value)
            if frame is not None:
                yield frame, record
        offset = records[-1].offset + 1


async def _remove(url: str, federation: str) -> None:
    """Leave nothing in a log that is for other things."""
    async with await open_transport(url) as log:
        for topic in await log.topics(f"{federation}."):
            await log.delete_topic(topic)
