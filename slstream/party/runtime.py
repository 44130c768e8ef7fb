"""One party's process: opens the log, enters a session, performs its actions, and ends in order."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from slstream.errors import ConfigError, Interrupted, SlstreamError, StorageError
from slstream.party.address import log_url
from slstream.party.codec_choice import check_codecs
from slstream.party.compute import ComputeThread
from slstream.party.context import PartyContext
from slstream.party.device import open_device
from slstream.party.divergences import Divergences
from slstream.party.doing import provided_by
from slstream.party.environment import environment
from slstream.party.feature_party import follow
from slstream.party.incarnation import Incarnation
from slstream.party.interruption import interruptible
from slstream.party.key_file import read_key_file
from slstream.party.label_party import lead
from slstream.party.ledger import Ledger
from slstream.party.lobby import Lobby
from slstream.party.negotiation import Negotiation
from slstream.party.party_files import PartyFiles
from slstream.party.registry_log import RegistryLog
from slstream.party.reporter import Reporter
from slstream.party.summary import Summary
from slstream.party.telemetry import PartyState, Progress
from slstream.party.times import Times
from slstream.topology.apply_command import apply_command
from slstream.topology.topology import Topology
from slstream.transport.connect import open_transport
from slstream.transport.contract import Durability, Transport
from slstream.transport.embedded.folders import create_folder

Listener = Callable[[Progress], None]
WrapTransport = Callable[[Transport], Transport]

_logger = logging.getLogger(__name__)


def run_party(
    name: str,
    topology: Topology,
    *,
    directory: Path,
    on_progress: Listener | None = None,
    begin_new: bool = False,
) -> Summary:
    """Run one party in this process until its session is over.

    SIGINT and SIGTERM end it cleanly, when called from the main thread.

    Args:
        name: of the party.
        topology: the federation.
        directory: of the run; ``directory/name/`` is this party's.
        on_progress: called in this thread, at most ten times a second.
        begin_new: give unfinished sessions up for a new one; only the label party can.

    Returns:
        This party's view of the run, also written to ``directory/name/summary.json``.

    Raises:
        Interrupted: by a signal; the peers of its session were told.
        SlstreamError: any other failure; the peers were told where that was possible.
    """
    listener = on_progress or (lambda progress: None)
    runtime = PartyRuntime(name, topology, directory, listener, begin_new=begin_new)
    return asyncio.run(runtime.run())


class PartyRuntime:
    """The shell around one party's session. Used once."""

    def __init__(
        self,
        name: str,
        topology: Topology,
        directory: Path,
        listener: Listener,
        *,
        begin_new: bool = False,
        wrap_transport: WrapTransport | None = None,
    ) -> None:
        """Check what can be checked without the log.

        Args:
            name: of the party.
            topology: the federation.
            directory: of the run.
            listener: called in this thread, at most ten times a second.
            begin_new: give unfinished sessions up for a new one; only the label party can.
            wrap_transport: what stands between the party and the opened log; closes it.

        Raises:
            ConfigError: an unknown party or codec, a device that is not there, or a feature party
                that is to begin a session.
        """
        self._begin_new = begin_new
        self._wrap_transport = wrap_transport or (lambda transport: transport)
        self.party = topology.party(name)
        if begin_new and self.party != topology.label_party:
            raise ConfigError(
                f"{name} cannot begin a new session: the label party {topology.label_party.id} does"
            )
        check_codecs(topology)
        self._device = open_device(self.party, topology)
        self._topology = topology
        self._directory = directory / name
        self._url = log_url(topology, directory)
        self._listener = listener
        self._ledger = Ledger(name)
        self._signal: signal.Signals | None = None
        self._fault: Exception | None = None

    async def run(self) -> Summary:
        """Run the session; see :func:`run_party`."""
        try:
            create_folder(self._directory)
        except OSError as error:
            raise StorageError(f"cannot create {self._directory}: {error}") from error
        durability = Durability(self._topology.durability)
        compute = ComputeThread(self._topology.threads)
        # The order of the end: the session tells its peers, the reporter sends what it holds, the
        # transport finishes its appends, and the compute thread what it is at.
        try:
            with self._signals(), self._faults(), self._device.deterministic():
                opened = await open_transport(
                    self._url,
                    durability=durability,
                    client=f"{self._topology.federation}.{self.party.id}",
                )
                async with self._wrap_transport(opened) as transport:
                    _logger.info("log opened", extra={"url": self._url, "durability": durability})
                    return await self._run(transport, compute)
        except asyncio.CancelledError:
            cause = self._cause()
            if cause is None:
                raise
            raise cause from None
        finally:
            compute.close()

    def _cause(self) -> Exception | None:
        """Why this party cancelled itself, when it did."""
        if self._signal is not None:
            return Interrupted(
                f"{self.party.id} was interrupted by {self._signal.name}; its session stays open "
                "and goes on when it is started again"
            )
        return self._fault

    async def _run(self, transport: Transport, compute: ComputeThread) -> Summary:
        reporter = Reporter(
            transport, self._topology.federation, self.party.id, self._ledger, self._listener
        )
        reporter.update(epochs=self._topology.training.epochs)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(reporter.run())
                try:
                    result = await self._reported(transport, compute, reporter)
                finally:
                    reporter.close()
        except ExceptionGroup as group:  # of one: what a listener raised
            raise group.exceptions[0] from None
        if isinstance(result, Exception):
            raise result
        return result

    async def _reported(
        self, transport: Transport, compute: ComputeThread, reporter: Reporter
    ) -> Summary | Exception:
        """Take part, and report how it ended; the reporter is still running to send it.

        Whatever ends the session is returned, not raised: a task group would wrap it.
        """
        try:
            summary = await self._take_part(transport, compute, reporter)
        except asyncio.CancelledError:
            task, cause = asyncio.current_task(), self._cause()
            if cause is None or task is None:
                raise
            task.uncancel()
            result: Exception = cause
            interrupted = isinstance(cause, Interrupted)
            state = PartyState.INTERRUPTED if interrupted else PartyState.FAILED
        except Exception as error:  # noqa: BLE001 - raised again by the caller
            state, result = PartyState.FAILED, error
        else:
            _logger.info("session over", extra={"outcome": summary.outcome})
            reporter.update(lasting=True, state=PartyState.FINISHED, waiting_for=None)
            return summary
        # What others read may not quote this party's data; its own process says all.
        told: str | None = type(result).__name__
        if isinstance(result, SlstreamError):
            told = None if state is PartyState.INTERRUPTED else result.reason_for_peers
        _logger.info("session over", extra={"outcome": state, "why": str(result)})
        reporter.update(lasting=True, state=state, waiting_for=None, message=told)
        return result

    async def _take_part(
        self, transport: Transport, compute: ComputeThread, reporter: Reporter
    ) -> Summary:
        topology = self._topology
        files = PartyFiles(
            self._directory,
            federation=topology.federation,
            party=self.party.id,
            keep_every_epochs=topology.checkpoints.keep_every_epochs,
        )
        lobby = Lobby(transport, topology.federation, topology.label_party.id)
        registry = RegistryLog(transport, topology.federation)
        times = Times()
        negotiation = Negotiation(self.party.id, topology, registry, times)
        with provided_by(apply_command(topology)):
            incarnation = await Incarnation.claim(transport, topology.federation, self.party.id)
            _logger.info("incarnation claimed", extra={"incarnation": incarnation.number})
            await lobby.open()
            await registry.open()
            await negotiation.open()
        context = PartyContext(
            party=self.party,
            topology=topology,
            transport=transport,
            compute=compute,
            lobby=lobby,
            negotiation=negotiation,
            reporter=reporter,
            ledger=self._ledger,
            times=times,
            files=files,
            comparison=Divergences(transport, topology.federation, self.party.id),
            incarnation=incarnation,
            environment=environment(topology.threads, self._device),
            begin_new=self._begin_new,
            shared_key=read_key_file(topology),
        )
        is_label = self.party == topology.label_party
        return await (lead(context) if is_label else follow(context))

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """Let a signal that asks to end cancel the current task, once."""
        task = asyncio.current_task()

        def interrupt(number: signal.Signals) -> None:
            if self._signal is None and task is not None:
                self._signal = number
                task.cancel()

        with interruptible(interrupt):
            yield

    @contextmanager
    def _faults(self) -> Iterator[None]:
        """Let an exception that escapes a callback of the event loop cancel the current task.

        It is a bug, and asyncio would only print it: the party would go on, or wait for ever.
        """
        loop, task = asyncio.get_running_loop(), asyncio.current_task()

        def end(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
            loop.default_exception_handler(context)
            error = context.get("exception")
            if "handle" in context and isinstance(error, Exception) and self._fault is None:
                self._fault = error
                if task is not None:
                    task.cancel()

        before = loop.get_exception_handler()
        loop.set_exception_handler(end)
        try:
            yield
        finally:
            loop.set_exception_handler(before)
