"""Drives a session: the one place where its actions meet the links and the local work."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

from slstream.errors import SlstreamError
from slstream.frames.header import FrameKind
from slstream.frames.link import FrameWriter
from slstream.frames.topics import link_topic
from slstream.party.context import PartyContext
from slstream.party.link import Inbound, Outbound
from slstream.party.telemetry import PartyState
from slstream.protocol.actions import (
    Action,
    Arrival,
    EpochEnd,
    Forward,
    Fuse,
    Hear,
    Match,
    Matched,
    Predict,
    Prepare,
    Receive,
    Rows,
    Send,
    Tell,
)
from slstream.protocol.messages import Abort, Message, Refuse, encode_message
from slstream.protocol.session import Outcome, Session

LAST_WORD_S = 2.0
"""How long a failing party tries to tell its peers why."""

PerformLocally = Callable[[Action], Awaitable[object]]


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
        perform_locally: PerformLocally,
        watch: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """Prepare to drive.

        Args:
            context: the party.
            session: its id.
            peers: the parties at the other end of this party's links.
            perform_locally: performs all actions but sending and receiving.
            watch: awaited about once a second while a peer is silent; may raise.
        """
        self._context = context
        self._session = session
        self._peers = peers
        self._perform_locally = perform_locally
        self._watch = watch
        self._inbound: dict[str, Inbound] = {}
        self._outbound: dict[str, Outbound] = {}
        self._joined = False
        self.rows: Rows | None = None
        """What was matched, once it was."""

    async def open_links(self) -> None:
        """Create the topics of this party's links where they are missing."""
        context = self._context
        own, federation = context.party.id, context.topology.federation
        for peer in self._peers:
            to_peer = link_topic(federation, own, peer, self._session)
            from_peer = link_topic(federation, peer, own, self._session)
            await context.transport.create_topic(to_peer)
            await context.transport.create_topic(from_peer)
            self._outbound[peer] = Outbound(
                context.transport,
                to_peer,
                peer,
                FrameWriter(sender=own, incarnation=1),
                context.ledger,
                context.times,
            )
            self._inbound[peer] = Inbound(context.transport, from_peer, peer, context.times)

    async def drive(self, session: Session) -> Outcome:
        """Perform a session to its end.

        When it fails, the peers are told why, as far as that is possible within
        :data:`LAST_WORD_S`.

        Raises:
            SlstreamError: as the session and its actions do.
        """
        result: object = None
        try:
            while True:
                try:
                    action = session.send(result)
                except StopIteration as stop:
                    outcome: Outcome = stop.value
                    return outcome
                result = await self._perform(action)
        except SlstreamError as error:
            await self.last_word(error.reason_for_peers)
            raise
        except asyncio.CancelledError:
            await self.last_word("it was interrupted")
            raise

    async def last_word(self, reason: str) -> None:
        """Tell all peers that nothing more will come. Never raises, and takes a bounded time."""
        word: Message = Abort(reason=reason[:1000])
        if not self._joined and self._context.party != self._context.topology.label_party:
            word = Refuse(reason=reason[:1000])
        with suppress(SlstreamError, TimeoutError):
            async with asyncio.timeout(LAST_WORD_S):
                for peer in self._outbound:
                    await self._tell(peer, word)

    async def _perform(self, action: Action) -> object:
        self._report(action)
        match action:
            case Receive():
                return action.accept(await self._next(action, action.kind))
            case Hear():
                return action.accept(await self._next(action, FrameKind.CONTROL))
            case Send():
                await self._send(action)
                return None
            case Tell():
                self._joined = True
                await self._tell(action.peer, action.message)
                return None
            case EpochEnd():
                # A checkpoint must never be ahead of the log that led to it.
                with self._context.times.measure("transport_s"):
                    await self._context.transport.flush()
                return await self._perform_locally(action)
            case _:
                result = await self._perform_locally(action)
                self._note(result)
                return result

    async def _next(self, action: Receive | Hear, kind: FrameKind) -> Arrival:
        return await self._inbound[action.peer].next(
            str(action),
            self._context.negotiation.schema_id(action.peer, kind),
            timeout_s=self._context.topology.timeouts.peer_s,
            on_tick=lambda waited_s: self._tick(action, waited_s),
        )

    async def _tick(self, action: Receive | Hear, waited_s: float) -> None:
        self._context.reporter.update(waiting_for=str(action), waiting_s=waited_s)
        for inbound in self._inbound.values():
            await inbound.read_ahead()
            inbound.raise_if_aborted()
        if self._watch is not None:
            await self._watch()

    async def _send(self, action: Send) -> None:
        negotiation = self._context.negotiation
        await self._outbound[action.peer].send(
            action.kind,
            negotiation.schema_id(action.peer, action.kind) or 0,
            action.payload.data,
            codec=negotiation.codec_text(action.peer, action.kind),
            raw_bytes=action.payload.raw_bytes,
            epoch=action.epoch,
            step=action.step,
            micro_batch=action.micro_batch,
        )

    async def _tell(self, peer: str, message: Message) -> None:
        negotiation, payload = self._context.negotiation, encode_message(message)
        await self._outbound[peer].send(
            FrameKind.CONTROL,
            negotiation.schema_id(peer, FrameKind.CONTROL) or 0,
            payload,
            codec=negotiation.codec_text(peer, FrameKind.CONTROL),
            raw_bytes=len(payload),
        )

    def _note(self, result: object) -> None:
        if isinstance(result, Matched):
            result = result.rows
        if isinstance(result, Rows):
            self.rows = result
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
                update(session=self._session, state=PartyState.OPENING, waiting_for=None)
            case Forward(kind=FrameKind.ACTIVATION) | Fuse():
                update(
                    state=PartyState.TRAINING,
                    epoch=action.epoch,
                    step=action.step,
                    waiting_for=None,
                    waiting_s=0.0,
                    message=None,
                )
            case Forward() | Predict():
                update(state=PartyState.EVALUATING, waiting_for=None, waiting_s=0.0)
            case EpochEnd():
                update(lasting=True, metrics=dict(action.metrics), waiting_for=None)
            case _:
                pass
