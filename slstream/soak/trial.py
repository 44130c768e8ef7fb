"""One federation trained twice: undisturbed, and while its processes are killed."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

from slstream.errors import ConfigError
from slstream.frames.topics import (
    LinkName,
    divergences_topic,
    incarnations_topic,
    lobby_topic,
    parse_link_topic,
)
from slstream.party.address import log_url
from slstream.party.lobby import Lobby
from slstream.party.summary import Summary
from slstream.party.telemetry import Progress
from slstream.soak.kill_plan import Kill, TrainingPart, plan_kills
from slstream.soak.killer import DoneKill, Killer
from slstream.soak.training_frames import (
    Differences,
    TrainingFolder,
    TrainingFrames,
    differences,
)
from slstream.supervisor import run as run_session
from slstream.topology.sections import ADAPTIVE
from slstream.topology.topology import Topology
from slstream.transport.connect import open_transport
from slstream.transport.contract import Transport

UNDISTURBED = "undisturbed"
DISTURBED = "disturbed"
"""Folders of the two runs."""

Listener = Callable[[Progress], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionTrace:
    """What a finished session left in the log and on the parties' disks."""

    session: str
    seconds: float
    """From the start of its processes to the end of the last."""
    steps: int
    """Training steps, over all epochs."""
    weights: Mapping[str, str]
    """By party: SHA-256 of ``model.safetensors``, in hex."""
    history: tuple[Mapping[str, float], ...]
    """Validation metrics per epoch."""
    links: tuple[TrainingFrames, ...]
    starts: int
    """Processes of all parties that have claimed an incarnation."""
    divergences: int
    """Frames that were recomputed with other bits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What a soak test found."""

    planned: int
    """Kills asked for."""
    done: tuple[DoneKill, ...]
    undisturbed: SessionTrace
    disturbed: SessionTrace
    frames: Differences

    @property
    def weights_differing(self) -> tuple[str, ...]:
        """Parties that did not learn the same bits."""
        before, after = self.undisturbed.weights, self.disturbed.weights
        return tuple(
            party for party in sorted({*before, *after}) if before.get(party) != after.get(party)
        )

    @property
    def metrics_differ(self) -> bool:
        """Whether any metric of any epoch differs."""
        return self.undisturbed.history != self.disturbed.history


def run(
    topology: Topology,
    *,
    kills: int,
    seed: int,
    directory: Path,
    on_progress: Listener | None = None,
) -> Trial:
    """Train twice, the second time with ``kills`` SIGKILLs, and compare.

    Args:
        topology: the federation; all its data must be readable here.
        kills: how many times processes are killed.
        seed: of the choice of places, parties and kinds.
        directory: gets a folder for each run; neither may exist.
        on_progress: called with the progress events of all parties of both runs.

    Raises:
        ConfigError: a folder exists already, or the topology does not fit.
        SlstreamError: a run failed, or a party did not come back.
    """
    directory = directory.absolute()
    if topology.codec.choice == ADAPTIVE:
        raise topology.error(
            "codec",
            "choice",
            text="two sessions choose other codecs, so their weights cannot be compared; expected "
            "fixed ones (--set codec=auto)",
        )
    for name in (UNDISTURBED, DISTURBED):
        if (directory / name).exists():
            raise ConfigError(
                f"expected no folder {directory / name}, found one: a soak test needs new runs; "
                "remove it, or name another --dir"
            )
    undisturbed, _ = _trained(topology, directory / UNDISTURBED, (), on_progress)
    plan = plan_kills(
        [_training_part(frames) for frames in undisturbed.links],
        [party.id for party in topology.parties],
        kills=kills,
        seed=seed,
        checkpoint_every=min(1.0, topology.checkpoints.every_steps / undisturbed.steps),
    )
    disturbed, done = _trained(topology, directory / DISTURBED, plan, on_progress)
    return Trial(
        planned=kills,
        done=done,
        undisturbed=undisturbed,
        disturbed=disturbed,
        frames=differences(undisturbed.links, disturbed.links),
    )


def run_with_kills(
    topology: Topology,
    plan: Sequence[Kill],
    *,
    directory: Path,
    on_progress: Listener | None = None,
) -> tuple[Summary, tuple[DoneKill, ...]]:
    """Train once, and kill as planned meanwhile.

    Args:
        topology: the federation.
        plan: what to kill when; kills whose place does not come are not done.
        directory: of the run.
        on_progress: called with the progress events of all parties.

    Raises:
        SlstreamError: the run failed, or a party did not come back.
    """
    url = log_url(topology, directory)
    killer = Killer(
        url,
        federation=topology.federation,
        parties=[party.id for party in topology.parties],
        directory=directory.absolute(),
        lobby_offset=asyncio.run(_open_lobby(url, topology)),
    )
    with beside(lambda: killer.run(plan)):
        summary = run_session(
            topology, directory=directory, on_progress=on_progress, restarts=len(plan)
        )
    return summary, tuple(killer.done)


@contextmanager
def beside(work: Callable[[], Coroutine[Any, Any, None]]) -> Iterator[None]:
    """Let ``work`` run in an event loop of another thread while the block runs in this one.

    At the block's end it is cancelled; what it raised is raised then, unless the block failed.
    """
    started: Future[tuple[asyncio.AbstractEventLoop, asyncio.Task[None]]] = Future()

    async def main() -> None:
        task = asyncio.create_task(work())
        started.set_result((asyncio.get_running_loop(), task))
        with suppress(asyncio.CancelledError):
            await task

    with ThreadPoolExecutor(max_workers=1) as executor:
        end = executor.submit(lambda: asyncio.run(main()))
        loop, task = started.result()
        try:
            yield
        finally:
            with suppress(RuntimeError):  # the loop is closed: the work is done
                loop.call_soon_threadsafe(task.cancel)
        end.result()


async def _open_lobby(url: str, topology: Topology) -> int:
    """Create log and lobby, so that they can be followed from the start; the lobby's end."""
    async with await open_transport(url) as log:
        await Lobby(log, topology.federation, topology.label_party.id).open()
        return await log.end_offset(lobby_topic(topology.federation))


def _trained(
    topology: Topology, directory: Path, plan: Sequence[Kill], on_progress: Listener | None
) -> tuple[SessionTrace, tuple[DoneKill, ...]]:
    url = log_url(topology, directory)
    before = asyncio.run(_starts(url, topology))
    began = monotonic()
    summary, done = run_with_kills(topology, plan, directory=directory, on_progress=on_progress)
    seconds = monotonic() - began
    return asyncio.run(_trace(url, topology, directory, summary, seconds, before)), done


async def _trace(
    url: str, topology: Topology, directory: Path, summary: Summary, seconds: float, before: int
) -> SessionTrace:
    async with await open_transport(url, read_only=True) as log:
        links = []
        for topic in await log.topics(f"{topology.federation}."):
            with suppress(ValueError):  # not a link
                link = parse_link_topic(topic)
                if link.session == summary.session:
                    links.append(await _folded(log, topic, link))
        return SessionTrace(
            session=summary.session,
            seconds=seconds,
            steps=summary.steps,
            weights={party.id: _digest(directory / party.id) for party in topology.parties},
            history=tuple(summary.history),
            links=tuple(links),
            starts=await _starts(url, topology) - before,
            divergences=await _divergences(log, topology, summary.session),
        )


async def _folded(log: Transport, topic: str, link: LinkName) -> TrainingFrames:
    folder, offset = TrainingFolder(link), 0
    while records := await log.read(topic, offset):
        for record in records:
            folder.push(record)
        offset = records[-1].offset + 1
    return folder.result


async def _starts(url: str, topology: Topology) -> int:
    """Claims of incarnations in a log, by all parties."""
    async with await open_transport(url) as log:
        topics = [incarnations_topic(topology.federation, party.id) for party in topology.parties]
        held = await log.topics(f"{topology.federation}.")
        return sum([await log.end_offset(topic) for topic in topics if topic in held])


async def _divergences(log: Transport, topology: Topology, session: str) -> int:
    count = 0
    held = await log.topics(f"{topology.federation}.")
    for party in topology.parties:
        topic, offset = divergences_topic(topology.federation, party.id), 0
        while topic in held and (records := await log.read(topic, offset)):
            # A divergence that cannot be read is one all the same.
            count += sum(_session_of(record.value) in (session, None) for record in records)
            offset = records[-1].offset + 1
    return count


def _session_of(value: bytes) -> object:
    try:
        document = json.loads(value)
    except ValueError:
        return None
    return document.get("session") if isinstance(document, dict) else None


def _digest(folder: Path) -> str:
    return hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()


def _training_part(frames: TrainingFrames) -> TrainingPart:
    return TrainingPart(
        sender=frames.link.sender,
        receiver=frames.link.receiver,
        start=frames.start,
        end=frames.end,
    )
