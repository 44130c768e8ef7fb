"""All parties of a federation on one machine: one process each, supervised."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from pydantic import JsonValue

from slstream.errors import (
    Interrupted,
    LocalProtocolError,
    SessionAborted,
    StorageError,
    TransportError,
)
from slstream.party.address import log_url
from slstream.party.interruption import interruptible
from slstream.party.lobby import Lobby, continues
from slstream.party.summary import Summary, finished_session
from slstream.party.telemetry import Progress
from slstream.party.telemetry_reader import TelemetryReader
from slstream.topology.topology import Topology
from slstream.transport.connect import open_transport
from slstream.transport.embedded.folders import create_folder

GRACE_S = 3.0
"""How long the other parties may take to end by themselves after one has failed."""

END_S = 3.5
"""How long parties may take to end after SIGTERM, before they are killed: they lose nothing."""

DRAIN_S = 1.0
"""How long what parties have told last may take to be read."""

RESTARTS = 10
"""How often a party that was killed is started again, by default."""

_SHOWN_LINES = 20

Listener = Callable[[Progress], None]
Program = Callable[[str], Sequence[str]]

_logger = logging.getLogger(__name__)


def run(
    topology: Topology,
    *,
    directory: Path | None = None,
    on_progress: Listener | None = None,
    baseline: bool = False,
    restarts: int = RESTARTS,
    begin_new: bool = False,
    program: Program | None = None,
) -> Summary:
    """Train a federation: every party in a process of its own, on this machine.

    A party that is killed is started again and goes on where it was. So does a run that was
    interrupted, when it is called again with the same directory.

    SIGINT and SIGTERM end all parties cleanly, when called from the main thread.

    Args:
        topology: the federation; all its data must be readable here.
        directory: where everything of the run goes; default ``runs/<federation>``.
        on_progress: called with the progress events of all parties.
        baseline: train the same model in this process too, without compression, to compare.
        restarts: how often each party that was killed by a signal is started again.
        begin_new: give the directory's unfinished session up, and begin a new one.
        program: of a party's process: Python's arguments, before the options of ``slstream party``;
            default: that command.

    Returns:
        The label party's summary with traffic and times of all, also written to
        ``directory/summary.json``.

    Raises:
        ConfigError: a file, table or model does not fit; nothing of it is the log's fault.
        SessionAborted: a party failed; the message carries what it said.
        Interrupted: by a signal; all parties have ended.
        TransportError: the log cannot be read.
    """
    supervisor = _Supervisor(
        topology,
        directory or Path("runs") / topology.federation,
        on_progress or _ignore,
        restarts,
        begin_new=begin_new,
        program=program,
    )
    summary = _in_own_loop(supervisor)
    _write(summary, supervisor.directory)
    if baseline:
        # What the session came to is on disk already, should this be interrupted.
        # torch takes seconds to load, and only this part of a run needs it in this process.
        from slstream.party.centralised import train_centralised

        summary = replace(summary, baseline=train_centralised(topology))
        _write(summary, supervisor.directory)
    return summary


def _write(summary: Summary, directory: Path) -> None:
    path = directory / "summary.json"
    try:
        summary.write(path)
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error}") from error


def write_topology(topology: Topology, directory: Path) -> Path:
    """Write ``directory/topology.json``: the federation as it was run, defaults filled in.

    Paths in it are absolute, so that it means the same in every folder.

    Raises:
        StorageError: the disk refuses.
    """
    document = topology.file.model_dump(mode="json", exclude_none=True)
    for party in topology.parties:
        path = topology.data_path(party)
        if path is not None:
            _at(document, "parties", party.id, "data")["path"] = str(path)
    key_file = topology.alignment.key_file
    if key_file is not None:
        _at(document, "alignment")["key_file"] = str(topology.root / key_file)
    document["modules"] = str(topology.modules)
    path = directory / "topology.json"
    try:
        create_folder(directory)
        # Read back as YAML, which does not join the two halves of an escaped character.
        text = json.dumps(document, indent=2, ensure_ascii=False)
        path.write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error}") from error
    return path


class _Supervisor:
    """Starts the parties' processes, follows their telemetry, and ends them."""

    def __init__(
        self,
        topology: Topology,
        directory: Path,
        listener: Listener,
        restarts: int,
        *,
        begin_new: bool = False,
        program: Program | None = None,
    ) -> None:
        self._begin_new = begin_new
        self._program = program or _party_command
        self.directory = directory.absolute()
        self._restarts = {party.id: restarts for party in topology.parties}
        self._finished_before: dict[str, str | None] = {}
        self._over_before: frozenset[str] = frozenset()
        self._topology = topology
        self._listener = listener
        self._processes: dict[str, asyncio.subprocess.Process] = {}
        self._asked: set[str] = set()
        self._signal: signal.Signals | None = None
        self._stop = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lobby: Lobby

    async def run(self) -> Summary:
        """Run all parties to their end."""
        self._loop = asyncio.get_running_loop()
        topology_file = write_topology(self._topology, self.directory)
        try:
            await self._run(topology_file)
        except ExceptionGroup as group:  # of a task group; the first is what ended it
            raise group.exceptions[0] from None
        if self._signal is not None:
            raise Interrupted(
                f"interrupted by {self._signal.name}; all parties have ended. To go on, run the "
                f"same again with --dir {self.directory}"
            )
        self._raise_failure()
        return self._merged()

    def interrupt(self) -> None:
        """End all parties; from another thread."""
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: all have ended
                self._loop.call_soon_threadsafe(self._interrupt, signal.SIGINT)

    def _interrupt(self, number: signal.Signals) -> None:
        self._signal = number
        self._stop.set()

    async def _run(self, topology_file: Path) -> None:
        url = log_url(self._topology, self.directory)
        client = f"{self._topology.federation}.supervisor"
        async with (
            await open_transport(url, client=client) as transport,
            asyncio.TaskGroup() as tasks,
        ):
            readers = [
                TelemetryReader(transport, self._topology.federation, party.id, self._listener)
                for party in self._topology.parties
            ]
            self._lobby = Lobby(transport, self._topology.federation, self._topology.label_party.id)
            await self._lobby.open()
            self._over_before = frozenset(filter(self._lobby.closed, self._lobby.sessions))
            for reader in readers:
                await reader.open()
            followers = [tasks.create_task(reader.follow()) for reader in readers]
            with interruptible(self._interrupt):
                try:
                    resumed = self._to_resume(self._lobby)
                    for party in self._topology.parties:
                        finished = self._finished(party.id)
                        is_label = party == self._topology.label_party
                        if is_label or finished is None or finished != resumed:
                            self._finished_before[party.id] = finished
                            await self._start(party.id, topology_file)
                    await self._wait(topology_file)
                finally:
                    await self._end()
            for follower in followers:
                follower.cancel()
            # What cannot be shown by then is not worth a longer wait, or an error.
            with contextlib.suppress(TimeoutError, TransportError):
                # Who interrupts does not wait to be told.
                async with asyncio.timeout(0 if self._stop.is_set() else DRAIN_S):
                    for reader in readers:
                        await reader.drain()

    def _to_resume(self, lobby: Lobby) -> str | None:
        """The session that the label party will go on with.

        A feature party that has finished it is not needed any more, and would wait for another.
        """
        newest = next(reversed(lobby.unfinished), None)
        if self._begin_new or newest is None or not continues(newest, self._topology):
            return None
        return newest.session

    def _topology_arguments(self, topology_file: Path) -> list[str]:
        """The user's own file where there is one, so that errors name its lines."""
        topology = self._topology
        if topology.path is None:
            return ["--topology", str(topology_file)]
        changes = [part for change in topology.overrides for part in ("--set", change)]
        return ["--topology", str(topology.path), *changes]

    async def _start(self, party: str, topology_file: Path) -> None:
        folder = self.directory / party
        create_folder(folder)
        threads = str(self._topology.threads)
        path = folder / "log.txt"
        first = party not in self._processes
        if first:
            path.write_bytes(b"")
        begin_new = first and self._begin_new and party == self._topology.label_party.id
        # Appended to, as a party of an earlier run may still write to it.
        with path.open("ab") as log:
            self._processes[party] = await asyncio.create_subprocess_exec(
                sys.executable,
                "-P",  # a random.py in the current folder is not Python's
                *self._program(party),
                *self._topology_arguments(topology_file),
                "--dir",
                str(self.directory),
                "--quiet",
                "--log-level",
                "info",
                *(["--new"] if begin_new else []),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # A terminal's Ctrl-C reaches this process only, which ends the others in order.
                start_new_session=True,
                env={
                    **os.environ,
                    "OMP_NUM_THREADS": threads,
                    "MKL_NUM_THREADS": threads,
                },
            )

    async def _wait(self, topology_file: Path) -> None:
        """Wait until all have ended or a signal came; not for long once one has failed."""
        ends = {asyncio.ensure_future(p.wait()) for p in self._processes.values()}
        stop = asyncio.ensure_future(self._stop.wait())
        left_s: float | None = None
        try:
            while ends and not self._stop.is_set():
                done, _ = await asyncio.wait(
                    {*ends, stop}, timeout=left_s, return_when=asyncio.FIRST_COMPLETED
                )
                if not done:
                    return
                ends -= done
                refreshing = asyncio.ensure_future(self._lobby.refresh())
                await asyncio.wait({refreshing, stop}, return_when=asyncio.FIRST_COMPLETED)
                if self._stop.is_set():
                    refreshing.cancel()
                    return
                refreshing.result()
                for party in (*self._to_restart(), *self._made_up()):
                    await self._start(party, topology_file)
                    ends.add(asyncio.ensure_future(self._processes[party].wait()))
                if self._failed():
                    # One that was killed told nobody: the others would wait for it in vain.
                    killed = any(self._is_killed(party) for party in self._processes)
                    left_s = 0.0 if killed else GRACE_S
        finally:
            for waiter in (*ends, stop):
                waiter.cancel()

    def _to_restart(self) -> list[str]:
        """Parties that were killed, unless they had finished or were killed too often."""
        chosen = []
        for party in self._failed():
            if self._is_killed(party) and self._restarts[party] > 0 and not self._stop.is_set():
                self._restarts[party] -= 1
                chosen.append(party)
                left = self._restarts[party]
                _logger.warning(
                    "killed party is started again", extra={"party": party, "restarts_left": left}
                )
        return chosen

    def _made_up(self) -> list[str]:
        """Parties that only made up for the end of a session that was over before this run."""
        made_up = []
        for party, process in self._processes.items():
            session = self._finished(party)
            is_old = session in self._over_before and session != self._finished_before[party]
            if process.returncode == 0 and is_old:
                self._finished_before[party] = session
                made_up.append(party)
        return made_up

    def _is_killed(self, party: str) -> bool:
        return (self._processes[party].returncode or 0) < 0

    def _finished(self, party: str) -> str | None:
        return finished_session(self.directory / party)

    def _is_finished(self, party: str) -> bool:
        """Whether a party had nothing left to do in this run; it may have been killed after it."""
        session = self._finished(party)
        if session is None or session == self._finished_before[party]:
            return False
        # The label party closes the session after that.
        return party != self._topology.label_party.id or self._lobby.closed(session) is not None

    async def _end(self) -> None:
        """End what still runs: ask first, then insist."""
        for kill in (False, True):
            alive = {n: p for n, p in self._processes.items() if p.returncode is None}
            self._asked.update(alive)
            for process in alive.values():
                with contextlib.suppress(ProcessLookupError):
                    process.kill() if kill else process.terminate()
            if ends := [asyncio.ensure_future(process.wait()) for process in alive.values()]:
                _, late = await asyncio.wait(ends, timeout=END_S)
                for end in late:
                    end.cancel()

    def _failed(self) -> list[str]:
        return [
            party
            for party, process in self._processes.items()
            if process.returncode not in (None, 0) and not self._is_finished(party)
        ]

    def _raise_failure(self) -> None:
        # Who was asked to end had not failed, unless it was asked because it hung.
        failed = [p for p in self._failed() if p not in self._asked] or self._failed()
        if not failed:
            return
        reports = []
        for party in failed:
            process, log = self._processes[party], self.directory / party / "log.txt"
            reports.append((_said(log, process.returncode or 0), party))
        # Most parties fail because another did; that one's own report comes first.
        reports.sort(key=lambda report: "gave up:" in report[0] or "refused to" in report[0])
        lines = [f"{party}: {text}" for text, party in reports]
        raise SessionAborted("\n".join(lines))

    def _merged(self) -> Summary:
        summaries = {
            party.id: Summary.from_json((self.directory / party.id / "summary.json").read_text())
            for party in self._topology.parties
        }
        lead = summaries[self._topology.label_party.id]
        return replace(
            lead,
            traffic=[entry for s in summaries.values() for entry in s.traffic],
            choices=[choice for s in summaries.values() for choice in s.choices],
            time={party: s.time[party] for party, s in summaries.items()},
        )


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # A real-time signal.
        return f"signal {number}"


def _said(log: Path, status: int) -> str:
    """The error that a party's process printed last, or how it ended without one."""
    try:
        lines = log.read_text(errors="replace").splitlines()
    except OSError:
        lines = []
    starts = [index for index, line in enumerate(lines) if line.startswith("error:")]
    if starts:
        return "\n".join(lines[starts[-1] :]).removeprefix("error:").strip()
    ended = (
        f"it was killed by {_signal_name(-status)}"
        if status < 0
        else f"it ended with exit status {status}"
    )
    tail = "\n".join(lines[-_SHOWN_LINES:])
    return f"{ended}; its last lines in {log}:\n{tail}" if tail else f"{ended} (see {log})"


def _in_own_loop(supervisor: _Supervisor) -> Summary:
    """Run to the end, also where an event loop runs already, as in a notebook."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        pass  # not run in here, where its error would seem to follow from this one
    else:
        return _in_own_thread(supervisor)
    return asyncio.run(supervisor.run())


def _in_own_thread(supervisor: _Supervisor) -> Summary:
    with ThreadPoolExecutor(max_workers=1) as executor:
        try:
            return executor.submit(lambda: asyncio.run(supervisor.run())).result()
        except KeyboardInterrupt:
            supervisor.interrupt()  # leaving the block waits for the thread
            raise


def _at(document: dict[str, JsonValue], *path: str) -> dict[str, JsonValue]:
    for key in path:
        child = document[key]
        if not isinstance(child, dict):
            raise LocalProtocolError(f"{'.'.join(path)} is no mapping")
        document = child
    return document


def _party_command(party: str) -> Sequence[str]:
    return ("-m", "slstream", "party", party)


def _ignore(progress: Progress) -> None:
    del progress
