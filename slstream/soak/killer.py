"""Kills parties as planned, while their session's log grows."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import time_ns

from slstream.errors import RemoteProtocolError, SlstreamError
from slstream.frames.topics import LinkName, incarnations_topic, link_topic, lobby_topic
from slstream.protocol.messages import Announce, decode_message
from slstream.soak.kill_plan import Kill, KillKind
from slstream.soak.party_process import PartyProcess
from slstream.soak.training_frames import TrainingFolder
from slstream.transport.connect import open_transport
from slstream.transport.contract import Transport

PATIENCE_S = 120.0
"""How long a killed party may take until its next process claims an incarnation."""

POLL_S = 0.001
"""How often a party's folder is looked at for a checkpoint that is being written."""

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class DoneKill:
    """What became of a planned kill."""

    planned: Kill
    kind: KillKind
    """What it was: one that missed the checkpoint's write is counted as a plain one."""
    at_ms: int
    """When, in milliseconds since the Unix epoch; informative."""


class Killer:
    """Follows one session's log and kills its parties; used once."""

    def __init__(
        self,
        url: str,
        *,
        federation: str,
        parties: Sequence[str],
        directory: Path,
        lobby_offset: int,
    ) -> None:
        """Watch a run.

        Args:
            url: of its log; only read.
            federation: whose run it is.
            parties: all of them.
            directory: of the run, absolute.
            lobby_offset: end of the lobby before the run began; the topic exists.
        """
        self.done: list[DoneKill] = []
        """So far, in order."""
        self._url = url
        self._federation = federation
        self._parties = parties
        self._directory = directory
        self._lobby_offset = lobby_offset
        self._killed_at_ms = 0
        self._folders: dict[str, TrainingFolder] = {}
        self._offsets: dict[str, int] = {}

    async def run(self, plan: Sequence[Kill]) -> None:
        """Do all kills of a plan, one after another; cancel it when the run is over.

        Raises:
            SlstreamError: the log cannot be read, or a party did not come back.
        """
        async with await open_transport(self._url, read_only=True) as log:
            session = await self._session(log)
            for kill in plan:
                topic = link_topic(self._federation, kill.sender, kill.receiver, session)
                await self._open(log, topic)
                await self._reach(log, topic, kill.frames)
                kind = await self._perform(log, kill, topic)
                self.done.append(DoneKill(planned=kill, kind=kind, at_ms=self._killed_at_ms))
                # Not a warning, but what a user who waits wants to see.
                number = f"{len(self.done)} of {len(plan)}"
                _logger.warning("killed", extra={"number": number, "kind": kind, "at": kill.frames})

    async def _session(self, log: Transport) -> str:
        """The session that the run announces."""
        topic, offset = lobby_topic(self._federation), self._lobby_offset
        while True:
            await log.wait(topic, offset)
            for record in await log.read(topic, offset):
                offset = record.offset + 1
                try:
                    message = decode_message(record.value)
                except RemoteProtocolError:
                    continue
                if isinstance(message, Announce) and message.federation == self._federation:
                    return message.session

    async def _open(self, log: Transport, topic: str) -> None:
        """Wait until a link is there: a session is announced first."""
        while True:
            if topic in await log.topics(topic):
                return
            await asyncio.sleep(POLL_S)

    async def _reach(self, log: Transport, topic: str, frames: int) -> None:
        """Wait until so many frames of a link stand."""
        folder = self._folders.setdefault(topic, TrainingFolder(_NO_LINK))
        while folder.frames < frames:
            offset = self._offsets.get(topic, 0)
            # A frame takes a record or more: no need to look before so many have come.
            await log.wait(topic, offset + frames - folder.frames - 1)
            for record in await log.read(topic, offset):
                folder.push(record)
                self._offsets[topic] = record.offset + 1

    async def _perform(self, log: Transport, kill: Kill, topic: str) -> KillKind:
        chosen = self._parties if kill.kind is KillKind.ALL else (kill.party,)
        processes = [await self._process(log, party) for party in chosen]
        try:
            if kill.kind is KillKind.CHECKPOINT:
                return await self._kill_in_checkpoint(log, kill, topic, processes[0])
            self._kill(processes)
            for process in processes:
                await process.ended()
            return kill.kind
        finally:
            for process in processes:
                process.close()

    def _kill(self, processes: Sequence[PartyProcess]) -> None:
        self._killed_at_ms = time_ns() // 1_000_000
        for process in processes:
            process.kill()

    async def _kill_in_checkpoint(
        self, log: Transport, kill: Kill, topic: str, process: PartyProcess
    ) -> KillKind:
        """Kill when a temporary file of a checkpoint appears, or the plan's patience is over."""
        folder = self._directory / kill.party / "checkpoints"
        before = _unfinished_files(folder)
        patience = asyncio.ensure_future(self._reach(log, topic, kill.latest))
        try:
            while not patience.done() and not _unfinished_files(folder) - before:
                await asyncio.wait({patience}, timeout=POLL_S)
            self._kill([process])
            if patience.done():
                patience.result()
        finally:
            patience.cancel()
        await process.ended()
        # What is left behind shows that the file had not been published.
        hit = _unfinished_files(folder) - before
        return KillKind.CHECKPOINT if hit else KillKind.ONE

    async def _process(self, log: Transport, party: str) -> PartyProcess:
        """The process with the party's newest incarnation, as soon as there is a living one."""
        topic = incarnations_topic(self._federation, party)
        while True:
            end = await log.end_offset(topic)
            process = await self._claimed(log, topic, end, party)
            if process is not None:
                return process
            if not await log.wait(topic, end, timeout_s=PATIENCE_S):
                raise SlstreamError(
                    f"expected {party} to be started again after it was killed, found no new "
                    f"incarnation in {PATIENCE_S:.0f} s (topic {topic}, offset {end}); see "
                    f"{self._directory / party / 'log.txt'}"
                )

    async def _claimed(
        self, log: Transport, topic: str, end: int, party: str
    ) -> PartyProcess | None:
        if end == 0:
            return None
        (record,) = await log.read(topic, end - 1, max_records=1)
        try:
            claim = json.loads(record.value)
            host, pid = claim["host"], int(claim["pid"])
        except (ValueError, KeyError, TypeError, RecursionError):
            return None
        return PartyProcess.find(pid, party, self._directory) if host == _HOST else None


_HOST = socket.gethostname()

_NO_LINK = LinkName(federation="", sender="", receiver="", session="")
"""For a fold of which only the number of frames is asked."""


def _unfinished_files(folder: Path) -> set[tuple[str, int, int]]:
    """Files below ``folder`` that are being written, or were left half-written.

    By name, inode and time of the last change: one that is written again is another one.
    """
    return set(_scan(folder))


def _scan(folder: Path) -> Iterator[tuple[str, int, int]]:
    with _vanishing(), os.scandir(folder) as entries:
        for entry in entries:
            with _vanishing():
                if entry.is_dir(follow_symlinks=False):
                    yield from _scan(Path(entry.path))
                elif entry.name.startswith(".") and entry.name.endswith(".tmp"):
                    facts = entry.stat(follow_symlinks=False)
                    yield entry.path, facts.st_ino, facts.st_mtime_ns


@contextmanager
def _vanishing() -> Iterator[None]:
    """What is renamed or not there yet is no error."""
    try:
        yield
    except FileNotFoundError:
        return
