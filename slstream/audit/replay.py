"""Re-executing one party of a session from the log, without its peers and without writing."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from time import perf_counter

from slstream.audit.comparison import Deviation, RangeDone, ReplayComparison, StepRange
from slstream.audit.log_view import LogEnded, LogView
from slstream.audit.recorded import recorded_environment
from slstream.audit.tensor_dump import TensorDump
from slstream.errors import (
    CheckpointError,
    ConfigError,
    Diverged,
    RemoteProtocolError,
    SessionAborted,
    SessionRefused,
)
from slstream.party.checkpoint import Checkpoint
from slstream.party.compute import ComputeThread
from slstream.party.context import PartyContext
from slstream.party.device import Values, open_device
from slstream.party.driver import Driver, LocalActions
from slstream.party.environment import environment
from slstream.party.feature_actions import FeatureActions
from slstream.party.incarnation import Incarnation
from slstream.party.key_file import read_key_file
from slstream.party.label_actions import LabelActions
from slstream.party.ledger import Ledger
from slstream.party.lobby import Lobby
from slstream.party.negotiation import Negotiation
from slstream.party.outbound import Outgoing
from slstream.party.party_files import MODEL_FILES, WEIGHTS, PartyFiles
from slstream.party.plan import plan_of
from slstream.party.recent_activations import Place
from slstream.party.registry_log import RegistryLog
from slstream.party.reporter import Reporter
from slstream.party.times import Times
from slstream.protocol.feature import feature_session
from slstream.protocol.label import label_session
from slstream.protocol.messages import Announce, End, decode_message
from slstream.protocol.session import Outcome
from slstream.topology.sections import MAX_THREADS
from slstream.topology.topology import Party, Topology
from slstream.transport.contract import Transport

_SHOWN = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayRequest:
    """What to replay, and what to demand."""

    session: str
    """Its id, or ``latest``."""
    party: str
    begin: tuple[int, int] | None = None
    """(epochs done, steps done of the next) of the checkpoint to begin at; ``None``: the start."""
    until: StepRange = field(default_factory=StepRange)
    bound: float | None = None
    """Largest relative deviation of a tensor; ``None``: equal bits, on an equal environment."""
    dump: tuple[int, int] | None = None
    """(epoch, step) whose tensors to keep."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayReport:
    """What a replay found; when bits had to be equal they were."""

    session: str
    party: str
    exact: bool
    """Whether equal bits were demanded."""
    environment_differences: list[str]
    """Between the machine of the session and this one."""
    frames: int
    """Frames that were computed and compared."""
    equal_frames: int
    last_frame: str
    """The last one that was compared."""
    complete: bool
    """Whether the session was replayed to its clean end."""
    stopped: str
    """Why the replay ended where it did."""
    weights: str | None
    """SHA-256 of the final weights, when it got there."""
    weights_in_log: str | None
    """What the session says of them; the same when ``exact``."""
    bound: float | None
    deviations: list[Deviation]
    differing_messages: list[str]
    seconds: float

    @property
    def largest_deviation(self) -> Deviation | None:
        """The tensor with the largest relative deviation."""
        return max(self.deviations, key=lambda each: each.relative, default=None)

    @property
    def holds(self) -> bool:
        """Whether nothing deviated by more than the bound."""
        worst = self.largest_deviation
        return worst is None or self.bound is None or worst.relative <= self.bound


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """What is known after a replay."""

    report: ReplayReport
    tensors: TensorDump
    """Of the step that was asked for."""
    model: dict[str, bytes]
    """The files of the party's model, by name, as the session's own process wrote them:
    ``scaling.json``, where there are columns to scale, and ``model.safetensors``, when the replay
    came to the session's end."""


class EnvironmentDiffers(ConfigError):
    """Equal bits cannot be demanded on another environment than the session's."""


async def replay(
    request: ReplayRequest,
    topology: Topology,
    log: Transport,
    *,
    directory: Path | None,
    on_frame: Callable[[str], None] = lambda frame: None,
) -> Replayed:
    """Replay one party.

    Args:
        request: what to replay.
        topology: of the session, with this party's data at hand.
        log: only read.
        directory: of the run, for its checkpoints; needed to begin at one.
        on_frame: called with each frame that was compared.

    Raises:
        EnvironmentDiffers: no bound was given, and this is not the recorded environment.
        Diverged: what is computed is not what the log holds; names the first step that differs.
        CheckpointError: there is none where the replay is to begin, or it does not fit the session.
        ConfigError: no such session or party, the topology is not the session's, the party's device
            is not there, or the range ends where it begins or before.
        RemoteProtocolError: the party stated a number of threads that no party can have.
        SlstreamError: the log cannot be read, or holds what is no session.
    """
    _require_a_range(request)
    party = topology.party(request.party)
    view = LogView(log)
    lobby = Lobby(view, topology.federation, topology.label_party.id)
    await lobby.open()
    announce = _announced(lobby, request.session, topology.federation)
    topology = topology.as_recorded(announce.agreed)
    _require_agreement(topology, announce)
    recorded = await recorded_environment(view, announce, party.id)
    threads = _threads(recorded, topology, announce.session, party.id)
    device = open_device(party, topology)
    here = environment(threads, device)
    differences = [
        f"{name}: {recorded.get(name)} there, {here.get(name)} here"
        for name in sorted({*recorded, *here})
        if recorded.get(name) != here.get(name)
    ]
    if differences and request.bound is None:
        raise EnvironmentDiffers(
            f"the environment of {party.id} in session {announce.session} was another one, so its "
            f"bits cannot be expected here ({'; '.join(differences)}); use --tolerant to measure "
            "how far they deviate"
        )
    compute = ComputeThread(threads)
    try:
        replaying = _Replaying(
            request, topology, party, announce, view, compute, recorded, directory, on_frame
        )
        with device.deterministic():
            report = await replaying.run(lobby, differences)
    finally:
        compute.close()
    return Replayed(report=report, tensors=replaying.dump, model=replaying.files.model)


def _require_a_range(request: ReplayRequest) -> None:
    if request.begin is not None and request.until.ends_by(request.begin):
        epochs, steps = request.begin
        step = "" if request.until.step is None else f", step {request.until.step}"
        raise ConfigError(
            f"expected a range that ends behind its begin, after epoch {epochs}, step {steps} of "
            f"the next; found its end in epoch {request.until.epoch}{step}"
        )


def _announced(lobby: Lobby, session: str, federation: str) -> Announce:
    announce = lobby.newest if session == "latest" else lobby.announced(session)
    if announce is None:
        known = ", ".join(lobby.sessions[-_SHOWN:]) or "none"
        raise ConfigError(
            f"no session {session!r} of federation {federation} in this log; the newest "
            f"are: {known}"
        )
    return announce


def _require_agreement(topology: Topology, announce: Announce) -> None:
    differences = topology.differences_in_words(announce.agreed, there="in the session")
    if differences:
        raise ConfigError(
            f"the topology is not that of session {announce.session}: {differences}; replay with "
            "the topology of the session (--topology, --set)"
        )


def _threads(recorded: dict[str, str], topology: Topology, session: str, party: str) -> int:
    """The compute threads that a party stated; foreign text until here."""
    text = recorded.get("threads", str(topology.threads))
    if not re.fullmatch(r"[1-9][0-9]{0,2}", text) or int(text) > MAX_THREADS:
        raise RemoteProtocolError(
            f"session {session}: environment of {party}: threads: expected a whole number from 1 "
            f"to {MAX_THREADS}, found {text!r:.80}"
        )
    return int(text)


class _Replaying:
    """One replay."""

    def __init__(
        self,
        request: ReplayRequest,
        topology: Topology,
        party: Party,
        announce: Announce,
        view: LogView,
        compute: ComputeThread,
        recorded: dict[str, str],
        directory: Path | None,
        on_frame: Callable[[str], None],
    ) -> None:
        self._request = request
        self._topology = topology
        self._party = party
        self._announce = announce
        self._view = view
        self._compute = compute
        self._recorded = recorded
        self._on_frame = on_frame
        self._last_frame = ""
        self.dump = TensorDump(request.dump)
        self.files = _ReplayFiles(
            (directory or Path()) / party.id,
            federation=topology.federation,
            party=party.id,
            begin=request.begin,
        )

    async def run(self, lobby: Lobby, differences: list[str]) -> ReplayReport:
        """Drive the session over the log to its end, or as far as it goes."""
        start = perf_counter()
        context, comparison = await self._context(lobby)
        outcome: Outcome | None = None
        try:
            outcome = await self._drive(context)
            stopped = "the session's end"
        except RangeDone:
            stopped = "the end of the range that was asked for"
        except (SessionAborted, SessionRefused) as error:
            closed = lobby.closed(self._announce.session)
            if closed is None or closed.outcome != "failed":
                raise
            stopped = f"where the session failed: {error}"
        except LogEnded as error:
            closed = lobby.closed(self._announce.session)
            if closed is not None and closed.is_clean:
                raise Diverged(
                    f"session {self._announce.session} is closed as {closed.outcome}, but frames "
                    f"that lead there are missing after {self._last_frame}: {error}"
                ) from error
            stopped = f"the end of the log ({error})"
        return ReplayReport(
            session=self._announce.session,
            party=self._party.id,
            exact=self._request.bound is None,
            environment_differences=differences,
            frames=comparison.frames,
            equal_frames=comparison.equal,
            last_frame=self._last_frame,
            complete=outcome is not None,
            stopped=stopped,
            weights=None if outcome is None else sha256(self.files.model[WEIGHTS]).hexdigest(),
            weights_in_log=None if outcome is None else self._logged_weights(outcome, comparison),
            bound=self._request.bound,
            deviations=comparison.deviations,
            differing_messages=comparison.differing_messages,
            seconds=perf_counter() - start,
        )

    def _logged_weights(self, outcome: Outcome, comparison: ReplayComparison) -> str | None:
        """What the session's end says of the party's weights.

        The label party's outcome is what it computed now; what it said then is in its last message.
        """
        if self._party.id == self._topology.label_party.id:
            message = decode_message(comparison.last_message)
            return message.weights.get(self._party.id) if isinstance(message, End) else None
        return outcome.weights.get(self._party.id)

    async def _context(self, lobby: Lobby) -> tuple[PartyContext, ReplayComparison]:
        topology, party, view = self._topology, self._party, self._view
        registry = RegistryLog(view, topology.federation)
        await registry.open()
        times, ledger = Times(), Ledger(party.id)

        def on_tensor(name: str, place: Place, tensor: Values) -> None:
            self.dump.note(name, place, tensor)

        negotiation = Negotiation(party.id, topology, registry, times, on_tensor)
        comparison = ReplayComparison(
            bound=self._request.bound,
            until=self._request.until,
            coder=negotiation.coder,
            on_frame=self._compared,
        )
        await negotiation.open()
        context = PartyContext(
            party=party,
            topology=topology,
            transport=view,
            compute=self._compute,
            lobby=lobby,
            negotiation=negotiation,
            reporter=Reporter(view, topology.federation, party.id, ledger, lambda event: None),
            ledger=ledger,
            times=times,
            files=self.files,
            comparison=comparison,
            incarnation=_NoIncarnation(view, party.id),
            environment=self._recorded,
            shared_key=read_key_file(topology),
        )
        return context, comparison

    async def _drive(self, context: PartyContext) -> Outcome:
        topology, announce = context.topology, self._announce
        label_party = topology.label_party.id
        id_key = context.shared_key or bytes.fromhex(announce.id_key)
        local: LocalActions
        if self._party.id == label_party:
            peers = [party.id for party in topology.feature_parties]
            local = label = LabelActions(
                self._party,
                topology,
                compute=context.compute,
                negotiation=context.negotiation,
                id_key=id_key,
                files=context.files,
                on_loss=lambda epoch, step, loss: None,
            )
            await label.load()
            session = label_session(label_party, peers, plan_of(topology))
        else:
            peers = [label_party]
            local = FeatureActions(
                self._party,
                topology,
                compute=context.compute,
                negotiation=context.negotiation,
                id_key=id_key,
                environment=context.environment,
                files=context.files,
            )
            session = feature_session(label_party, plan_of(topology))

        async def watch() -> None:
            return None

        driver = Driver(context, announce.session, peers, local, watch)
        await driver.open_links(take_over=False)
        return await driver.drive(session)

    def _compared(self, frame: Outgoing) -> None:
        self._last_frame = str(frame)
        self._on_frame(self._last_frame)


class _NoIncarnation(Incarnation):
    """A replay claims nothing, and no process of the party fences it."""

    def __init__(self, view: LogView, party: str) -> None:
        super().__init__(view, "", party, number=2**32 - 1)

    async def require_newest(self) -> None:
        """Nobody is newer."""


class _ReplayFiles(PartyFiles):
    """Keeps a model in memory, and offers the one checkpoint at which the replay is to begin."""

    def __init__(
        self, directory: Path, *, federation: str, party: str, begin: tuple[int, int] | None
    ) -> None:
        super().__init__(directory, federation=federation, party=party, writable=False)
        self._begin = begin
        self.model: dict[str, bytes] = {}
        """What would have been written of the model, by file name."""

    def _write(self, path: Path, data: bytes) -> None:
        if path.name in MODEL_FILES:
            self.model[path.name] = data

    def checkpoints(self, session: str) -> Iterator[Checkpoint]:
        """The chosen checkpoint.

        Raises:
            CheckpointError: there is none at that place, or another is asked for, as that one
                cannot be used.
        """
        if self._begin is None:
            return
        places = []
        for checkpoint in super().checkpoints(session):
            places.append(checkpoint.standing.place)
            if places[-1] == self._begin:
                yield checkpoint
                # Asked for more: it was refused. A replay from the first frame is another one.
                raise CheckpointError(
                    f"the checkpoint after epoch {self._begin[0]}, step {self._begin[1]} of the "
                    f"next in {self.directory}/checkpoints/{session} was skipped, as the warning "
                    "before this says; begin at another one"
                )
        kept = ", ".join(f"{epochs}/{steps}" for epochs, steps in reversed(places)) or "none"
        raise CheckpointError(
            f"no checkpoint after epoch {self._begin[0]}, step {self._begin[1]} of the next in "
            f"{self.directory}/checkpoints/{session}; there are (epochs/steps): {kept}"
        )
