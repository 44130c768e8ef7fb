"""Both ends of a link over a transport."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from time import monotonic

from slstream.errors import (
    PeerTimeout,
    RemoteProtocolError,
    SessionAborted,
    SlstreamError,
)
from slstream.frames.frame import Frame
from slstream.frames.header import FrameKind
from slstream.frames.link import MAX_FRAME_BYTES, FrameReader, FrameWriter
from slstream.frames.wire_size import frame_wire_size, wire_size
from slstream.party.doing import doing
from slstream.party.ledger import Ledger
from slstream.party.times import Times
from slstream.protocol.actions import Arrival, raise_if_over
from slstream.protocol.messages import Abort, Message, Refuse, decode_message
from slstream.transport.contract import Record, Transport

TICK_S = 1.0
"""How often a waiting party says what it waits for, and looks at its other links."""

READ_AHEAD_BYTES = 16_777_216
"""What is held for a peer that is ahead; more stays in the log."""

_FRAME_COST = 1024
"""Counted for each frame that is held, beside its payload: what its objects take, generously."""

_SAY_AGAIN_S = 30.0
"""How often a wait that goes on is logged."""

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A record of a link, for messages."""

    topic: str
    offset: int

    def __str__(self) -> str:
        return f"topic {self.topic}, offset {self.offset}"


Places = Mapping[str, Place]
"""By peer: where the frame that was taken last from it lies in the log."""


class Outbound:
    """The sending end: numbers frames, counts and appends them."""

    def __init__(
        self,
        transport: Transport,
        topic: str,
        receiver: str,
        writer: FrameWriter,
        ledger: Ledger,
        times: Times,
    ) -> None:
        """Use an existing topic."""
        self.receiver = receiver
        self._times = times
        self._transport = transport
        self._topic = topic
        self._writer = writer
        self._ledger = ledger

    async def send(
        self,
        kind: FrameKind,
        schema_id: int,
        payload: bytes,
        *,
        codec: str,
        raw_bytes: int,
        epoch: int = 0,
        step: int = 0,
        micro_batch: int = 0,
    ) -> None:
        """Append one frame; it is sent, as the transport's durability says, on return.

        Args:
            kind: of the frame.
            schema_id: says what the payload means.
            payload: encoded.
            codec: short text for the ledger.
            raw_bytes: payload size, had the tensor been sent as float32.
            epoch: from 1, or 0 outside of training.
            step: as the epoch.
            micro_batch: from 0.

        Raises:
            SessionAborted: the payload is larger than a receiver accepts.
            TransportError: see :meth:`Transport.append`; the message is about this link's topic.
        """
        if len(payload) > MAX_FRAME_BYTES:
            raise SessionAborted(
                f"{kind.label} of epoch {epoch}, step {step} for {self.receiver}: expected at most "
                f"{MAX_FRAME_BYTES} bytes, found {len(payload)}; smaller batches or a smaller cut "
                "make smaller frames"
            )
        records = self._writer.write(
            kind=kind,
            schema_id=schema_id,
            payload=payload,
            epoch=epoch,
            step=step,
            micro_batch=micro_batch,
            window=1,  # sync: a receiver is ready for one step ahead
        )
        self._ledger.count(
            self.receiver,
            kind,
            codec,
            raw_bytes=frame_wire_size(raw_bytes, key=records[0].key, headers=records[0].headers),
            wire_bytes=sum(wire_size(record) for record in records),
        )
        what = f"send {kind.label} to {self.receiver} (topic {self._topic})"
        with self._times.measure("transport_s"), doing(what):
            await self._transport.append(
                self._topic,
                [Record(key=r.key, headers=r.headers, value=r.value) for r in records],
            )


class Inbound:
    """The receiving end: reads the log on demand, in order, and puts frames together."""

    def __init__(self, transport: Transport, topic: str, sender: str, times: Times) -> None:
        """Start at the beginning of an existing topic."""
        self.sender = sender
        self._times = times
        self.topic = topic
        self._transport = transport
        self._reader = FrameReader()
        self._offset = 0
        self._ready: deque[tuple[Frame, int]] = deque()
        self._ready_cost = 0
        self._last_word: Message | None = None
        self.taken: Place | None = None
        """Where the frame that was taken last ends."""

    @property
    def place(self) -> Place:
        """Of the next record that is not read yet."""
        return Place(topic=self.topic, offset=self._offset)

    @property
    def is_ready(self) -> bool:
        """Whether :meth:`next` would return, or raise, without waiting."""
        return bool(self._ready)

    def raise_if_over(self) -> None:
        """End at once when the peer gave up, also when frames before that were not yet taken.

        Raises:
            SessionAborted: it gave up.
            SessionRefused: it does not take part.
        """
        if self._last_word is not None:
            raise_if_over(self.sender, self._last_word)

    async def next(
        self,
        what: str,
        schema_id: Callable[[FrameKind], int | None],
        *,
        timeout_s: float,
        on_tick: Callable[[float], Awaitable[None]],
    ) -> Arrival:
        """The next frame of the link.

        Args:
            what: is waited for; for messages.
            schema_id: what was negotiated for a kind of frame; ``None`` while it is open.
            timeout_s: how long the frame may take to come.
            on_tick: awaited about once a second with the seconds waited so far; may raise.

        Raises:
            PeerTimeout: nothing came in time; names the peer, topic and offset.
            SessionAborted: the peer gave up.
            SessionRefused: the peer does not take part.
            RemoteProtocolError: the peer sent bytes that are not a frame of this link.
            TransportError: the log cannot be read.
        """
        await self._wait_for_frame(what, timeout_s, on_tick)
        frame, offset = self._ready.popleft()
        self._ready_cost -= _FRAME_COST + len(frame.payload)
        self.taken = Place(topic=self.topic, offset=offset)
        negotiated = schema_id(frame.kind)
        if negotiated is not None and frame.schema_id != negotiated:
            raise RemoteProtocolError(
                f"{self.sender} sent {frame.kind.label} of epoch {frame.epoch}, step {frame.step} "
                f"with schema id {frame.schema_id}; negotiated was {negotiated} ({self.taken})"
            )
        return Arrival(
            kind=frame.kind,
            epoch=frame.epoch,
            step=frame.step,
            micro_batch=frame.micro_batch,
            payload=frame.payload,
        )

    async def _wait_for_frame(
        self, what: str, timeout_s: float, on_tick: Callable[[float], Awaitable[None]]
    ) -> None:
        start = ticked = monotonic()
        say_at_s = 0.0
        while not self._ready:
            # Ticks go by the clock: records that complete no frame must not put them off.
            with self._times.measure("waiting_s"), doing(f"read from {self.sender} ({self.place})"):
                came = await self._transport.wait(
                    self.topic, self._offset, timeout_s=min(TICK_S, timeout_s)
                )
            if came:
                await self.read_ahead()
                self.raise_if_over()
            now = monotonic()
            if self._ready or (came and now - ticked < TICK_S):
                continue
            ticked, waited_s = now, now - start
            if waited_s >= timeout_s:
                raise PeerTimeout(
                    f"no sign of {self.sender} for {waited_s:.0f} s while waiting for {what} "
                    f"({self.place}); see what it says, or raise timeouts.peer_s"
                )
            if waited_s >= say_at_s:
                say_at_s = waited_s + _SAY_AGAIN_S
                where = {"topic": self.topic, "offset": self._offset}
                _logger.info("waiting", extra={"for": what, "waited_s": round(waited_s), **where})
            await on_tick(waited_s)

    async def read_ahead(self) -> None:
        """Take what the log holds, within the budget, without waiting.

        Raises:
            RemoteProtocolError: the peer sent bytes that are not a frame of this link.
            TransportError: the log cannot be read.
        """
        if self._ready_cost >= READ_AHEAD_BYTES:
            return
        with self._times.measure("transport_s"), doing(f"read from {self.sender} ({self.place})"):
            records = await self._transport.read(self.topic, self._offset)
        for record in records:
            try:
                frame = self._reader.push(record.value)
                if frame is not None and frame.kind is FrameKind.CONTROL:
                    message = decode_message(frame.payload)
                    if isinstance(message, Abort | Refuse):
                        self._last_word = message
            except SlstreamError as error:
                raise RemoteProtocolError(
                    f"{self.sender} sent a record that is no frame of this link (topic "
                    f"{self.topic}, offset {record.offset}): {type(error).__name__}: {error}"
                ) from error
            self._offset = record.offset + 1
            if frame is not None:
                self._ready.append((frame, record.offset))
                self._ready_cost += _FRAME_COST + len(frame.payload)
