"""Both ends of a link over a transport."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from time import monotonic

from slstream.errors import (
    PeerTimeout,
    RemoteProtocolError,
    SessionAborted,
    SlstreamError,
)
from slstream.frames.frame import Frame
from slstream.frames.header import FrameKind
from slstream.frames.link import FrameReader, FrameWriter
from slstream.frames.wire_size import frame_wire_size, wire_size
from slstream.party.ledger import Ledger
from slstream.party.times import Times
from slstream.protocol.actions import Arrival
from slstream.protocol.messages import Abort, decode_message
from slstream.transport.contract import Record, Transport

TICK_S = 1.0
"""How often a waiting party says what it waits for, and looks at its other links."""

READ_AHEAD_BYTES = 16_777_216
"""Payload bytes that are held for a peer that is ahead; more stays in the log."""


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
            TransportError: see :meth:`Transport.append`; the message is about this link's topic.
        """
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
        with self._times.measure("transport_s"):
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
        self._ready: deque[Frame] = deque()
        self._ready_bytes = 0
        self._abort: Abort | None = None

    @property
    def place(self) -> str:
        """``topic ..., offset ...`` of the next record, for messages."""
        return f"topic {self.topic}, offset {self._offset}"

    def raise_if_aborted(self) -> None:
        """End at once when the peer gave up, also when frames before that were not yet taken.

        Raises:
            SessionAborted: it did.
        """
        if self._abort is not None:
            raise SessionAborted(f"{self.sender} gave up: {self._abort.reason}")

    async def next(
        self,
        what: str,
        schema_id: int | None,
        *,
        timeout_s: float,
        on_tick: Callable[[float], Awaitable[None]],
    ) -> Arrival:
        """The next frame of the link.

        Args:
            what: is waited for; for messages.
            schema_id: negotiated for it; ``None`` before the negotiation.
            timeout_s: how long the peer may be silent.
            on_tick: awaited about once a second with the seconds waited so far; may raise.

        Raises:
            PeerTimeout: nothing came in time; names the peer, topic and offset.
            SessionAborted: the peer gave up.
            RemoteProtocolError: the peer sent bytes that are not a frame of this link.
            TransportError: the log cannot be read.
        """
        start = monotonic()
        while not self._ready:
            with self._times.measure("waiting_s"):
                came = await self._transport.wait(self.topic, self._offset, timeout_s=TICK_S)
            if came:
                await self.read_ahead()
                self.raise_if_aborted()
                continue
            waited_s = monotonic() - start
            if waited_s >= timeout_s:
                raise PeerTimeout(
                    f"no sign of {self.sender} for {waited_s:.0f} s while waiting for {what} "
                    f"({self.place}); see what it says, or raise timeouts.peer_s"
                )
            await on_tick(waited_s)
        frame = self._ready.popleft()
        self._ready_bytes -= len(frame.payload)
        if schema_id is not None and frame.schema_id != schema_id and not _may_interrupt(frame):
            raise RemoteProtocolError(
                f"{self.sender} sent {frame.kind.label} of epoch {frame.epoch}, step {frame.step} "
                f"with schema id {frame.schema_id}; negotiated for {what} was {schema_id} "
                f"({self.place})"
            )
        return Arrival(
            kind=frame.kind,
            epoch=frame.epoch,
            step=frame.step,
            micro_batch=frame.micro_batch,
            payload=frame.payload,
        )

    async def read_ahead(self) -> None:
        """Take what the log holds, within the budget, without waiting.

        Raises:
            RemoteProtocolError: the peer sent bytes that are not a frame of this link.
            TransportError: the log cannot be read.
        """
        if self._ready_bytes >= READ_AHEAD_BYTES:
            return
        with self._times.measure("transport_s"):
            records = await self._transport.read(self.topic, self._offset)
        for record in records:
            try:
                frame = self._reader.push(record.value)
                if frame is not None and frame.kind is FrameKind.CONTROL:
                    message = decode_message(frame.payload)
                    if isinstance(message, Abort):
                        self._abort = message
            except SlstreamError as error:
                raise RemoteProtocolError(
                    f"{self.sender} sent a record that is no frame of this link (topic "
                    f"{self.topic}, offset {record.offset}): {type(error).__name__}: {error}"
                ) from error
            self._offset = record.offset + 1
            if frame is not None:
                self._ready.append(frame)
                self._ready_bytes += len(frame.payload)


def _may_interrupt(frame: Frame) -> bool:
    return frame.kind is FrameKind.CONTROL
