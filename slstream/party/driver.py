"""Drives a session: the one place where its actions meet the links and the local work."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import asdict
from time import perf_counter
from typing import Protocol

from slstream.errors import (
    CheckpointError,
    RemoteProtocolError,
    SessionAborted,
    SlstreamError,
)
from slstream.frames.frame import Frame
from slstream.frames.header import FrameKind
from slstream.frames.link import CHOICE_HEADER
from slstream.frames.topics import link_topic
from slstream.frames.wire_size import Headers
from slstream.party.batches import RowArray
from slstream.party.checkpoint import Checkpoint, Standing
from slstream.party.checkpoint_writer import CheckpointWriter
from slstream.party.codec_choice import DIRECTIONS
from slstream.party.context import PartyContext
from slstream.party.doing import provided_by
from slstream.party.inbound import Inbound, Places
from slstream.party.link_reader import Place
from slstream.party.model_state import Trained
from slstream.party.outbound import Outbound, Outgoing
from slstream.party.party_files import mismatch
from slstream.party.recent_activations import Place as TensorPlace
from slstream.party.summary import CodecChosen
from slstream.party.telemetry import PartyState
from slstream.protocol.actions import (
    Action,
    Arrival,
    Backward,
    BaseSteps,
    Begin,
    Cursor,
    EpochEnd,
    Forward,
    Fuse,
    FuseSteps,
    Hear,
    Match,
    Matched,
    Payload,
    Predict,
    Prepare,
    Receive,
    Rows,
    Save,
    Send,
    Tell,
    Update,
)
from slstream.protocol.messages import Abort, Message, Refuse, encode_message
from slstream.protocol.session import Outcome, Session
from slstream.topology.apply_command import apply_command
from slstream.topology.sections import ADAPTIVE

LAST_WORD_S = 2.0
"""How long a failing party tries to tell its peers why."""

MOST_UNDER_WAY = 8
"""Frames of a link that are sent before the first of them is confirmed."""

_MOST_REASON = 1000
"""Characters of a reason that are sent."""

Watch = Callable[[], Awaitable[SlstreamError | None]]

_logger = logging.getLogger(__name__)


class Abandoned(SessionAborted):
    """The label party has given this session up for another one; there is nobody left to tell."""


class LocalActions(Protocol):
    """What a party does for its session, apart from sending and receiving."""

    async def perform(self, action: Action, places: Places) -> object:
        """Perform an action; ``places`` says where what it uses lies in the log."""

    def trained(self) -> Trained:
        """What a checkpoint keeps; in the compute thread, after the rows are matched."""

    def rows_at(self, kind: FrameKind, place: TensorPlace) -> RowArray:
        """Rows of a tensor; in the compute thread, after the rows are matched."""


class Driver:
    """Performs the actions of one session, strictly one after another.

    That order, and that :class:`Receive` and :class:`Hear` name their link, is what makes a party
    a function of its inputs: nothing here depends on when something arrives.
    """

    def __init__(
        self,
        context: PartyContext,
        session: str,
        peers: Sequence[str],
        local: LocalActions,
        watch: Watch,
    ) -> None:
        """Prepare to drive.

        Args:
            context: the party.
            session: its id.
            peers: the parties at the other end of this party's links.
            local: performs all actions but sending and receiving.
            watch: awaited about once a second while a peer is silent; says why the session is over
                when it is, which counts once all that the peer has sent before is used up.
        """
        self._context = context
        self._session = session
        self._peers = peers
        self._local = local
        self._cursor = Cursor()
        self._checkpoints = CheckpointWriter(context.transport, context.incarnation, context.files)
        self._watch = watch
        self._inbound: dict[str, Inbound] = {}
        self._outbound: dict[str, Outbound] = {}
        self._joined = False
        self._live = False
        self._training = False
        self.started_at = 0.0
        """:func:`time.perf_counter` when the links were opened."""
        self.rows: Rows | None = None
        """What was matched, once it was."""

    async def open_links(self, *, take_over: bool = True) -> None:
        """Create the topics of this party's links where they are missing.

        Args:
            take_over: fence older processes of this party off them. A replay does not, and uses
                what each peer sent up to the last frame before it heeds that the peer gave up.
        """
        with self._provided():
            await self._open_links(take_over)

    def _provided(self) -> AbstractContextManager[None]:
        return provided_by(apply_command(self._context.topology, [self._session]))

    async def _open_links(self, take_over: bool) -> None:
        context, self.started_at = self._context, perf_counter()
        self._live = take_over
        own, federation = context.party.id, context.topology.federation
        context.reporter.update(session=self._session)
        for peer in self._peers:
            to_peer = link_topic(federation, own, peer, self._session)
            from_peer = link_topic(federation, peer, own, self._session)
            await context.transport.create_topic(to_peer)
            await context.transport.create_topic(from_peer)
            self._outbound[peer] = Outbound(
                context.transport,
                to_peer,
                sender=own,
                receiver=peer,
                incarnation=context.incarnation.number,
                ledger=context.ledger,
                times=context.times,
                on_logged=self._compare,
                speed=context.negotiation.link_speed(peer),
                # A replay shall end at the frame that the log does not have.
                most_under_way=MOST_UNDER_WAY if take_over else 0,
            )
            self._inbound[peer] = Inbound(
                context.transport,
                from_peer,
                peer,
                context.times,
                context.negotiation.link_speed(peer),
                in_order=not take_over,
            )
            if take_over:
                await self._outbound[peer].fence()

    async def _compare(self, receiver: str, computed: Outgoing, logged: Frame, at: Place) -> None:
        await self._context.comparison.compare(self._session, receiver, computed, logged, at)

    async def drive(self, session: Session) -> Outcome:
        """Perform a session to its end.

        When it fails for good, the peers are told why, as far as that is possible within
        :data:`LAST_WORD_S`. After an error with ``ends_session`` unset, when it is cancelled, or
        while it is catching up, nothing is sent: a new process of this party can go on.

        Raises:
            Abandoned: another session has taken this one's place; the peers were told nothing.
            SlstreamError: as the session and its actions do.
        """
        result: object = None
        place: Place | None = None
        try:
            while True:
                try:
                    with _naming(place):
                        action = session.send(result)
                except StopIteration as stop:
                    outcome: Outcome = stop.value
                    with self._provided():
                        await self._settle()
                    await self._checkpoints.finish()
                    return outcome
                with self._provided():
                    result = await self._perform(action)
                if isinstance(action, Receive | Hear):
                    place = self._inbound[action.peer].taken
        except Abandoned:
            raise
        except SlstreamError as error:
            if self.ends_with(error):
                await self.last_word(error.reason_for_peers)
            raise
        except Exception as error:
            # Its text may quote data.
            await self.last_word(f"it failed unexpectedly ({type(error).__name__})")
            raise
        finally:
            for outbound in self._outbound.values():
                await outbound.leave()
            await self._checkpoints.leave()

    async def _settle(self) -> None:
        for outbound in self._outbound.values():
            await outbound.settle()

    def ends_with(self, error: Exception) -> bool:
        """Whether an error ends the session for all.

        Not while this process is catching up: an earlier one came farther, so a new one can, once
        what is wrong here, such as the path of a table, is put right.
        """
        if isinstance(error, SlstreamError) and not error.ends_session:
            return False
        return all(o.gave_up or not o.is_catching_up for o in self._outbound.values())

    async def last_word(self, reason: str) -> None:
        """Tell all peers that nothing more will come. Never raises, and takes a bounded time."""
        if not self._live:
            return
        reason = printable_reason(reason)
        word: Message = Abort(reason=reason)
        if not self._joined and self._context.party != self._context.topology.label_party:
            word = Refuse(reason=reason)
        for peer, outbound in self._outbound.items():
            if outbound.is_catching_up:
                continue
            # wait_for, as a timeout context does not work in a task that is being cancelled.
            with suppress(SlstreamError, TimeoutError):
                await asyncio.wait_for(self._say(peer, word), LAST_WORD_S / len(self._outbound))
                _logger.info("last word sent", extra={"to": peer, "word": word.type})

    async def _say(self, peer: str, word: Message) -> None:
        await self._tell(peer, word)
        await self._outbound[peer].settle()

    async def _perform(self, action: Action) -> object:
        if not isinstance(action, Send):  # Frames for several peers go together.
            for outbound in self._outbound.values():
                await outbound.give_way()
        self._report(action)
        match action:
            case Receive() | Hear():
                arrival = await self._next(action)
                with _naming(self._inbound[action.peer].taken):
                    return action.accept(arrival)
            case Send():
                await self._send(action)
                return None
            case Tell():
                self._joined = True
                await self._tell(action.peer, action.message)
                return None
            case Begin():
                self._cursor = await self._begin()
                return self._cursor
            case EpochEnd():
                self._cursor = action.cursor
                self._guard(action.metrics)
                await self._keep()
                return None
            case _:
                await self._read_back(action)
                if isinstance(action, Save):
                    # Not over the weights of a successor that has gone on to another session.
                    await self._context.incarnation.require_newest()
                result = await self._local.perform(action, self._places())
                self._note(result)
                match action:
                    case Backward(ends_step=True):
                        await self._step_done(action.step, ahead=action.ahead)
                    case Update() | BaseSteps() | FuseSteps():
                        await self._step_done(action.step)
                return result

    def _guard(self, metrics: Mapping[str, float]) -> None:
        """Let adaptive choices know how an epoch went."""
        quality = self._context.negotiation.quality
        lifted = "loss" in metrics and quality.evaluated(metrics["loss"])
        if lifted and self._context.topology.codec.choice == ADAPTIVE:
            _logger.info("validation got worse: finer codecs", extra={"lifts": quality.lifts})

    async def _read_back(self, action: Action) -> None:
        """Have what is encoded again take the codecs that were chosen for it."""
        match action:
            case Forward(kind=kind):
                peers: Sequence[str] = self._peers
            case Fuse():
                peers, kind = self._peers, FrameKind.GRADIENT
            case _:
                return
        negotiation = self._context.negotiation
        for peer in peers:
            if negotiation.chooses(peer, kind):
                negotiation.expect(peer, kind, await self._outbound[peer].logged(kind))

    async def _begin(self) -> Cursor:
        """Go on from the newest checkpoint that the log supports, if there is one."""
        context = self._context
        checkpoints = context.files.checkpoints(self._session)
        while True:
            checkpoint = await context.compute.call(lambda: next(checkpoints, None))
            if checkpoint is None:
                return Cursor()
            standing = checkpoint.standing
            why = mismatch(standing, session=self._session, digest=context.topology.digest())
            why = why or await self._ahead_of_log(standing)
            if why is None:
                break
            epochs, steps = standing.place
            skipped = {"epochs": epochs, "steps": steps, "why": why}
            _logger.warning("checkpoint skipped", extra=skipped)
        await self._restore(checkpoint)
        return standing.cursor

    async def _restore(self, checkpoint: Checkpoint) -> None:
        context, standing = self._context, checkpoint.standing
        try:
            await context.compute.call(lambda: self._local.trained().restore(checkpoint.model))
        except CheckpointError as error:
            raise CheckpointError(
                f"the newest checkpoint of session {self._session} in "
                f"{context.files.directory}/checkpoints cannot be used: {error}; start with the "
                "code and the topology that wrote it"
            ) from error
        for peer, mark in standing.inbound.items():
            self._inbound[peer].seek(mark)
        for peer, mark in standing.outbound.items():
            self._outbound[peer].seek(mark)
        context.ledger.restore(standing.traffic)
        context.choices.restore(standing.choices)
        for metrics in standing.cursor.history:
            if "loss" in metrics:
                context.negotiation.quality.evaluated(metrics["loss"])
        context.times.earlier = standing.time
        epochs, steps = standing.place
        _logger.info("checkpoint loaded", extra={"epochs": epochs, "steps": steps})
        for name in sorted({*standing.environment, *context.environment}):
            before, now = standing.environment.get(name), context.environment.get(name)
            if before != now:
                change = {"what": name, "before": before, "now": now}
                _logger.warning("environment changed: other bits may follow", extra=change)

    async def _ahead_of_log(self, standing: Standing) -> str | None:
        """Why the log does not lead to a checkpoint; ``None`` when it does."""
        marks = [
            *((self._inbound[peer].topic, mark) for peer, mark in standing.inbound.items()),
            *((self._outbound[peer].topic, mark) for peer, mark in standing.outbound.items()),
        ]
        for topic, mark in marks:
            end = await self._context.transport.end_offset(topic)
            if mark.offset > end:
                return f"it was written at offset {mark.offset} of {topic}, which ends at {end}"
        return None

    async def _step_done(self, step: int, *, ahead: int = 0) -> None:
        self._cursor = Cursor(step=step, ahead=ahead, history=self._cursor.history)
        self._checkpoints.raise_if_failed()
        if step % self._context.topology.checkpoints.every_steps == 0:
            await self._keep()

    async def _keep(self) -> None:
        """Have a checkpoint of everything up to here written."""
        context, cursor = self._context, self._cursor
        if not context.files.writable:
            return
        await self._settle()
        model = await context.compute.call(lambda: self._local.trained().capture())
        standing = Standing(
            federation=context.topology.federation,
            party=context.party.id,
            session=self._session,
            digest=context.topology.digest(),
            incarnation=context.incarnation.number,
            cursor=cursor,
            inbound={peer: end.mark for peer, end in self._inbound.items()},
            outbound={peer: end.mark for peer, end in self._outbound.items()},
            traffic=context.ledger.traffic(),
            choices=context.choices.made,
            time=context.times.spent(perf_counter() - self.started_at, context.compute.busy_s),
            environment=context.environment,
        )
        await self._checkpoints.write(Checkpoint(standing=standing, model=model))

    def _places(self) -> Places:
        return {peer: end.taken for peer, end in self._inbound.items() if end.taken is not None}

    async def _next(self, action: Receive | Hear) -> Arrival:
        return await self._inbound[action.peer].next(
            str(action),
            lambda kind: self._context.negotiation.schema_ids(action.peer, kind),
            timeout_s=self._context.topology.timeouts.peer_s,
            on_tick=lambda waited_s: self._tick(action, waited_s),
        )

    async def _tick(self, action: Receive | Hear, waited_s: float) -> None:
        self._context.reporter.update(waiting_for=str(action), waiting_s=waited_s)
        await self._context.incarnation.require_newest()
        # Looked at before the links: what a peer sent before the session was over comes first.
        over = await self._watch()
        if isinstance(over, Abandoned):
            raise over
        for outbound in self._outbound.values():
            outbound.raise_if_failed()
            await outbound.require_topic()
        for inbound in self._inbound.values():
            await inbound.read_ahead()
            inbound.raise_if_over()
        if over is not None and not self._inbound[action.peer].is_ready:
            raise over

    async def _send(self, action: Send) -> None:
        negotiation, schema_id = self._context.negotiation, action.payload.schema_id
        if schema_id is None:
            schema_id = negotiation.content_id(action.kind)
        stands = await self._outbound[action.peer].send(
            Outgoing(
                kind=action.kind,
                schema_id=schema_id,
                payload=action.payload.data,
                codec=negotiation.codec_text(action.peer, action.kind, schema_id),
                raw_bytes=action.payload.raw_bytes,
                epoch=action.epoch,
                step=action.step,
                micro_batch=action.micro_batch,
                headers=self._headers(action),
            )
        )
        if action.payload.choice:
            self._tell_choice(action)
        if stands.kind in DIRECTIONS:
            await self._follow(action.peer, stands)

    def _headers(self, action: Send) -> Headers:
        """What is noted beside a frame where codecs are chosen."""
        reason = action.payload.choice
        chosen = ((CHOICE_HEADER, reason.encode()),) if reason else ()
        if self._outbound[action.peer].is_catching_up:
            return chosen  # what is not sent again tells nothing
        return chosen + self._context.negotiation.link_speed(action.peer).headers()

    def _tell_choice(self, action: Send) -> None:
        context, schema_id = self._context, action.payload.schema_id
        if schema_id is None:
            return
        choice = CodecChosen(
            sender=context.party.id,
            receiver=action.peer,
            kind=action.kind.label,
            epoch=action.epoch,
            step=action.step,
            codec=context.negotiation.codec_text(action.peer, action.kind, schema_id),
            reason=action.payload.choice,
        )
        context.choices.add(choice)
        _logger.info("codec chosen", extra=asdict(choice))
        context.reporter.update(lasting=True, message=str(choice))

    async def _follow(self, peer: str, frame: Outgoing) -> None:
        """Have codecs know of a tensor that was sent what its receiver will."""
        coder = self._context.negotiation.coder(peer, frame.kind, frame.schema_id)
        if not coder.follows:
            return
        place = frame.epoch, frame.step, frame.micro_batch

        def follow() -> None:
            coder.follow(frame.payload, self._local.rows_at(frame.kind, place), place)

        await self._context.compute.defer(follow)

    async def _tell(self, peer: str, message: Message) -> None:
        payload = encode_message(message)
        frame = Payload(data=payload, raw_bytes=len(payload))
        await self._send(Send(peer=peer, kind=FrameKind.CONTROL, payload=frame))

    def _note(self, result: object) -> None:
        if isinstance(result, Matched):
            result = result.rows
        if isinstance(result, Rows):
            self.rows = result
            counts = {"train": result.train_rows, "validation": result.validation_rows}
            _logger.info("rows matched", extra={"matched": sum(counts.values()), **counts})
            self._context.reporter.update(
                lasting=True,
                steps=result.steps,
                message=f"{result.train_rows + result.validation_rows} rows matched: "
                f"{result.train_rows} to train, {result.validation_rows} to validate",
            )

    def _report(self, action: Action) -> None:
        update = self._context.reporter.update
        match action:
            case Prepare() | Match():
                update(state=PartyState.OPENING, waiting_for=None)
            case Forward(kind=FrameKind.ACTIVATION) | Fuse() | BaseSteps() | FuseSteps():
                if not self._training:
                    self._training = True
                    opening_s = perf_counter() - self.started_at
                    self._context.times.end_opening(opening_s, self._context.compute.busy_s)
                again = any(end.is_catching_up for end in self._outbound.values())
                update(
                    state=PartyState.CATCHING_UP if again else PartyState.TRAINING,
                    epoch=action.epoch,
                    step=action.step,
                    waiting_for=None,
                    waiting_s=0.0,
                    message=None,
                )
            case Forward() | Predict():
                update(state=PartyState.EVALUATING, waiting_for=None, waiting_s=0.0)
            case EpochEnd():
                # Prefixed: the label party chose the names, and log records have some of their own.
                metrics = {f"validation_{name}": v for name, v in action.metrics.items()}
                _logger.info("epoch done", extra={"epoch": action.epoch, **metrics})
                update(lasting=True, metrics=dict(action.metrics), waiting_for=None)
            case _:
                pass


def printable_reason(reason: str) -> str:
    """A reason as messages may carry it: not too long, and nothing that UTF-8 cannot hold."""
    return reason[:_MOST_REASON].encode(errors="replace").decode()


@contextmanager
def _naming(place: Place | None) -> Iterator[None]:
    """Say of a peer's fault where in the log it lies."""
    try:
        yield
    except RemoteProtocolError as error:
        if place is None:
            raise
        raise RemoteProtocolError(f"{error} ({place})") from error
