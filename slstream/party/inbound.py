"""The receiving end of a link: its next frame, as soon as there is one."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Collection, Mapping
from time import monotonic, time

from slstream.errors import PeerTimeout, RemoteProtocolError
from slstream.frames.header import FrameKind
from slstream.party.doing import doing
from slstream.party.link_reader import LinkMark, LinkReader, Place
from slstream.party.link_speed import LinkSpeed
from slstream.party.times import Times
from slstream.protocol.actions import Arrival, raise_if_over
from slstream.transport.contract import StoredRecord, Transport

TICK_S = 1.0
"""How often a waiting party says what it waits for, and looks at its other links."""

_SAY_AGAIN_S = 30.0
"""How often a wait that goes on is logged."""

_BLOCKED_S = 0.001
"""A wait that was shorter may have been for a record that had come before."""

_logger = logging.getLogger(__name__)


Places = Mapping[str, Place]
"""By peer: where the frame that was taken last from it lies in the log."""


class Inbound:
    """The receiving end: reads the log on demand, in order, and puts frames together."""

    def __init__(
        self,
        transport: Transport,
        topic: str,
        sender: str,
        times: Times,
        speed: LinkSpeed,
        *,
        in_order: bool = False,
    ) -> None:
        """Start at the beginning of an existing topic.

        Args:
            transport: holds the log.
            topic: of the link.
            sender: the peer.
            times: gets the seconds of reading and waiting.
            speed: of the link; learns what was waited for, and what the peer says of it.
            in_order: let frames that came before the peer gave up be taken first.
        """
        self.sender = sender
        self._in_order = in_order
        self.taken: Place | None = None
        """Where the frame that was taken last ends."""
        self._times = times
        self._transport = transport
        self._speed = speed
        self._reader = LinkReader(transport, topic, sender, times, self._note)
        self._came_bytes, self._came_ms = 0, 0
        """Of the records that were read last: their size, and when the log took the last one."""

    @property
    def topic(self) -> str:
        """The link's."""
        return self._reader.topic

    @property
    def mark(self) -> LinkMark:
        """How far the link is used up."""
        return self._reader.mark

    def seek(self, mark: LinkMark) -> None:
        """Go on behind the frame after which ``mark`` was taken."""
        self._reader.seek(mark)

    async def read_ahead(self) -> None:
        """Take what the log holds, within a budget, without waiting."""
        await self._reader.read_ahead()

    def _note(self, record: StoredRecord) -> None:
        self._speed.heed(record.headers)
        self._came_bytes += len(record.value)
        self._came_ms = max(self._came_ms, record.timestamp_ms)

    @property
    def is_ready(self) -> bool:
        """Whether :meth:`next` would return, or raise, without waiting."""
        return self._reader.is_ready

    def raise_if_over(self) -> None:
        """End at once when the peer gave up, also when frames before that were not yet taken.

        Raises:
            SessionAborted: it gave up.
            SessionRefused: it does not take part.
        """
        if self._reader.last_word is not None and not self._in_order:
            raise_if_over(self.sender, self._reader.last_word)

    async def next(
        self,
        what: str,
        schema_ids: Callable[[FrameKind], Collection[int]],
        *,
        timeout_s: float,
        on_tick: Callable[[float], Awaitable[None]],
    ) -> Arrival:
        """The next frame of the link.

        Args:
            what: is waited for; for messages.
            schema_ids: what was negotiated for a kind of frame; empty while it is open.
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
        frame = self._reader.take()
        self.taken = Place(topic=self._reader.topic, offset=self._reader.mark.offset - 1)
        negotiated = schema_ids(frame.kind)
        if negotiated and frame.schema_id not in negotiated:
            ids = " or ".join(str(each) for each in negotiated)
            raise RemoteProtocolError(
                f"{self.sender} sent {frame.kind.label} of epoch {frame.epoch}, step {frame.step} "
                f"with schema id {frame.schema_id}; negotiated was {ids} ({self.taken})"
            )
        return Arrival(
            kind=frame.kind,
            epoch=frame.epoch,
            step=frame.step,
            micro_batch=frame.micro_batch,
            schema_id=frame.schema_id,
            payload=frame.payload,
        )

    async def _wait_for_frame(
        self, what: str, timeout_s: float, on_tick: Callable[[float], Awaitable[None]]
    ) -> None:
        start = ticked = monotonic()
        say_at_s = 0.0
        reader = self._reader
        while not reader.is_ready:
            place, asked = reader.place, monotonic()
            # Ticks go by the clock: records that complete no frame must not put them off.
            with self._times.measure("waiting_s"), doing(f"read from {self.sender} ({place})"):
                came = await self._transport.wait(
                    place.topic, place.offset, timeout_s=min(TICK_S, timeout_s)
                )
            blocked_s, arrived_s = monotonic() - asked, time()
            if came:
                self._came_bytes, self._came_ms = 0, 0
                await reader.read_ahead()
                self.raise_if_over()
                if blocked_s >= _BLOCKED_S:
                    self._arrived(arrived_s, blocked_s)
            now = monotonic()
            if reader.is_ready or (came and now - ticked < TICK_S):
                continue
            ticked, waited_s = now, now - start
            if waited_s >= timeout_s:
                raise PeerTimeout(
                    f"no sign of {self.sender} for {waited_s:.0f} s while waiting for {what} "
                    f"({place}); see what it says, or raise timeouts.peer_s"
                )
            if waited_s >= say_at_s:
                say_at_s = waited_s + _SAY_AGAIN_S
                where = {"topic": place.topic, "offset": place.offset}
                _logger.info("waiting", extra={"for": what, "waited_s": round(waited_s), **where})
            await on_tick(waited_s)

    def _arrived(self, at_s: float, waited_s: float) -> None:
        """Let the link's speed be known from records that came while they were waited for."""
        if self._came_bytes:
            self._speed.arrived(self._came_bytes, at_s - self._came_ms / 1000, waited_s)
