"""The sending end of a link: appends each frame once, whatever process began to send it."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from time import perf_counter

from slstream.errors import Fenced, SessionAborted
from slstream.frames.frame import Frame
from slstream.frames.header import FrameKind
from slstream.frames.link import MAX_FRAME_BYTES, FrameRecord, FrameWriter, record_headers
from slstream.frames.wire_size import Headers, frame_wire_size
from slstream.party.doing import doing, or_restored
from slstream.party.ledger import Ledger
from slstream.party.link_reader import LinkMark, LinkReader, Place
from slstream.party.link_speed import LinkSpeed
from slstream.party.times import Times
from slstream.transport.contract import Record, Transport

TENSORS = frozenset({FrameKind.ACTIVATION, FrameKind.GRADIENT, FrameKind.EVALUATION})
"""Kinds of frames that may be under way while the next is sent."""

UNDER_WAY_BYTES = 1 << 24
"""Payloads of the frames under way on a link, at most, unless it is a single one."""

NEAR_S = 0.001
"""How long a party may give way to what it has sent; a log that takes longer is far away."""

WINDOW = 1
"""sync: a receiver is ready for one step ahead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """A frame that is to be on the link."""

    kind: FrameKind
    schema_id: int
    payload: bytes
    codec: str
    """Short text for the ledger."""
    raw_bytes: int
    """Payload size, had the tensor been sent as float32."""
    epoch: int = 0
    """From 1, or 0 outside of training."""
    step: int = 0
    micro_batch: int = 0
    headers: Headers = ()
    """Of its records, besides those that every frame has."""

    def __str__(self) -> str:
        place = f" of epoch {self.epoch}, step {self.step}" if self.epoch else ""
        return f"{self.kind.label}{place}"


@dataclass(frozen=True, slots=True)
class _UnderWay:
    """A frame whose append is not confirmed yet."""

    frame: Outgoing
    offset: int
    """That its first record gets, if nobody else writes to the link."""
    records: int
    append: asyncio.Future[int]


_logger = logging.getLogger(__name__)

OnLogged = Callable[[str, Outgoing, Frame, Place], Awaitable[None]]
"""Called with receiver, the frame as it was computed now, as it is in the log, and where."""


class Outbound:
    """Numbers frames, counts and appends them.

    A frame that the log holds already, from an earlier process of this party, is not appended
    again: the logged one stands. So the link has each frame once, whenever a process died.

    An append tells the offset it got. When that is not the next one after this process's own last
    record, another process of the party has written to the link: the log is read back, and what it
    says counts (see :mod:`slstream.frames.link`).

    Some frames may be under way, their appends not confirmed yet: a log far away would cost a round
    trip for each.
    """

    def __init__(
        self,
        transport: Transport,
        topic: str,
        *,
        sender: str,
        receiver: str,
        incarnation: int,
        ledger: Ledger,
        times: Times,
        on_logged: OnLogged,
        speed: LinkSpeed,
        most_under_way: int = 0,
    ) -> None:
        """Use an existing topic; the log is read from its beginning.

        Args:
            transport: of the log.
            topic: the link's.
            sender: this party.
            receiver: the peer.
            incarnation: of this process.
            ledger: counts what is sent.
            times: gets the seconds that a session waits for the log.
            on_logged: awaited for each frame that the log holds already.
            speed: of the link; learns how long appends take.
            most_under_way: tensors whose appends need not be confirmed when :meth:`send` returns,
                so that a log far away does not cost a round trip for each. A message is always
                confirmed, and all that was sent before it.
        """
        self.receiver = receiver
        self._transport = transport
        self.topic = topic
        self._sender = sender
        self._incarnation = incarnation
        self._ledger = ledger
        self._times = times
        self._on_logged = on_logged
        self._speed = speed
        self._log = LinkReader(transport, topic, sender, times)
        self._catching_up = True
        self._end = 0
        """Offset that the next record gets, if nobody else writes to the link."""
        self.mark = LinkMark()
        """How far this party's own frames on the link go."""
        self.suppressed = 0
        """Frames that were in the log already."""
        self._most_under_way = most_under_way
        self._under_way: deque[_UnderWay] = deque()
        self._is_near = True
        """Whether the append that was confirmed last took no longer than :data:`NEAR_S`."""

    @property
    def is_catching_up(self) -> bool:
        """Whether the next frame may be in the log already."""
        return self._catching_up

    @property
    def gave_up(self) -> bool:
        """Whether an earlier process of this party has ended the session for good."""
        return self._log.last_word is not None

    def seek(self, mark: LinkMark) -> None:
        """Go on behind the frame after which ``mark`` was taken."""
        self._catching_up = True
        self.mark = mark
        self._log.seek(mark)

    async def fence(self) -> None:
        """Let readers ignore what older processes of this party may still append.

        A link without a whole frame needs no fence, as nobody builds on it yet; on it the fence
        would be taken for the first frame.
        """
        while not self._log.is_ready:
            if not await self._log.read_ahead():
                self._go_live()
                return
        record = FrameWriter(sender=self._sender, incarnation=self._incarnation).fence()
        await self._append([record], "fence older processes off the link")

    async def send(self, frame: Outgoing) -> Outgoing:
        """Have a frame on the link.

        On return it is sent, as the transport's durability says, or under way: then
        :meth:`settle` tells when it is sent. What a later call raises may be about an earlier
        frame.

        Returns:
            What the log holds in its place: the frame, or what an earlier process sent.

        Raises:
            SessionAborted: the payload is larger than a receiver accepts.
            Fenced: a newer process of this party writes to the link.
            TransportError: see :meth:`Transport.append`; the message is about this link's topic.
        """
        if len(frame.payload) > MAX_FRAME_BYTES:
            raise SessionAborted(
                f"{frame} for {self.receiver}: expected at most {MAX_FRAME_BYTES} bytes, found "
                f"{len(frame.payload)}; smaller batches or a smaller cut make smaller frames"
            )
        while self._under_way and not self._has_room(len(frame.payload)):
            await self._confirm()
        if self._most_under_way and not self._catching_up and frame.kind in TENSORS:
            self._start(frame)
            logged = None
        else:
            await self.settle()
            logged = await self._place(frame)
        self._count(frame)
        if logged is None:
            return frame
        return replace(frame, schema_id=logged.schema_id, payload=logged.payload)

    async def logged(self, kind: FrameKind) -> tuple[int, str] | None:
        """What the log holds in the next frame's place.

        Args:
            kind: of the next frame.

        Returns:
            Its schema id and why its codec was chosen, if so; ``None`` when the log ends before it,
            or has another kind of frame there.
        """
        while self._catching_up and not self._log.is_ready:
            if not await self._log.read_ahead():
                return None
        if not self._catching_up:
            return None
        logged, choice = self._log.peek()
        return (logged.schema_id, choice) if logged.kind is kind else None

    async def give_way(self) -> None:
        """Leave the interpreter to the log until it has taken what was sent, if that is quick.

        A peer waits for it, and a log with threads of its own would otherwise compete for the
        interpreter with whatever this party does next. One that was slow the last time is not
        waited for.
        """
        if not (self._is_near and self._under_way) or self._under_way[-1].append.done():
            return
        with self._times.measure("transport_s"):
            done, _ = await asyncio.wait({self._under_way[-1].append}, timeout=NEAR_S)
        if not done:
            self._is_near = False

    async def settle(self) -> None:
        """Wait until no frame is under way.

        Raises:
            Fenced: a newer process of this party writes to the link.
            TransportError: a frame could not be sent.
        """
        while self._under_way:
            await self._confirm()

    def raise_if_failed(self) -> None:
        """Tell at once that a frame which is under way will not arrive.

        Raises:
            SlstreamError: as :meth:`settle` would.
        """
        for each in self._under_way:
            if each.append.done():
                each.append.result()

    async def require_topic(self) -> None:
        """Check that the link is still there: who waits for an answer writes nothing to it.

        Raises:
            UnknownTopic: it was deleted, so what was sent cannot be answered.
            TransportError: the log cannot be read.
        """
        place = Place(topic=self.topic, offset=self.mark.offset)
        with doing(f"look at the own link to {self.receiver} ({place})"):
            await self._transport.end_offset(self.topic)

    async def leave(self) -> None:
        """Give up what is under way: a later process finds in the log what of it arrived."""
        appends = [each.append for each in self._under_way]
        self._under_way.clear()
        for append in appends:
            append.cancel()
        await asyncio.gather(*appends, return_exceptions=True)

    def _has_room(self, size: int) -> bool:
        if self._under_way[0].append.done():
            return False  # its place is free at once
        held = sum(len(each.frame.payload) for each in self._under_way)
        return len(self._under_way) < self._most_under_way and held + size <= UNDER_WAY_BYTES

    def _start(self, frame: Outgoing) -> None:
        sequence = self.mark.next_sequence + len(self._under_way)
        records = self._records(frame, sequence)
        append = asyncio.ensure_future(self._append(records, self._sending(frame)))
        self._under_way.append(_UnderWay(frame, self._end, len(records), append))
        self._end += len(records)

    async def _confirm(self) -> None:
        """Wait for the oldest frame that is under way."""
        first = self._under_way[0]
        with self._times.measure("transport_s"):
            offset = await asyncio.shield(first.append)
        if offset == first.offset:
            self._under_way.popleft()
            self._confirmed(offset + first.records)
            return
        # Somebody else has written between: read back what became of all that is under way.
        with self._times.measure("transport_s"):
            await asyncio.gather(*(each.append for each in self._under_way))
        frames = [each.frame for each in self._under_way]
        self._under_way.clear()
        self.seek(self.mark)
        for frame in frames:
            await self._place(frame)

    async def _place(self, frame: Outgoing) -> Frame | None:
        """Append a frame and wait for it, unless the log holds it."""
        while (logged := await self._logged(frame)) is None:
            records = self._records(frame, self.mark.next_sequence)
            with self._times.measure("transport_s"):
                offset = await self._append(records, self._sending(frame))
            if offset == self._end:
                self._end += len(records)
                self._confirmed(self._end)
                break
            self.seek(self.mark)
        return logged

    def _sending(self, frame: Outgoing) -> str:
        return f"send {frame} to {self.receiver}"

    async def _logged(self, frame: Outgoing) -> Frame | None:
        if not self._catching_up:
            return None
        while not self._log.is_ready:
            came = await self._log.read_ahead()
            self._raise_if_fenced()
            if not came:
                self._go_live()
                return None
        self._raise_if_fenced()
        if self.gave_up:
            raise SessionAborted(f"{self._sender} gave up in an earlier process")
        logged = self._log.take()
        self.mark = self._log.mark
        self.suppressed += 1
        place = Place(topic=self.topic, offset=self.mark.offset - 1)
        await self._on_logged(self.receiver, frame, logged, place)
        return logged

    def _go_live(self) -> None:
        """Begin to append behind the end of the log.

        What is left behind the last whole frame is given up, or ignored by all, unless its end
        arrives first; then it is read from that frame on again.
        """
        self._catching_up = False
        self._end = self._log.place.offset
        if self.suppressed:
            caught_up = {"topic": self.topic, "not_sent_again": self.suppressed}
            _logger.info("caught up with the own link", extra=caught_up)

    def _raise_if_fenced(self) -> None:
        if self._log.incarnation > self._incarnation:
            raise Fenced(
                f"another process of {self._sender} has taken over (topic {self.topic}: "
                f"incarnation {self._log.incarnation}, this process is {self._incarnation}); "
                "nothing that this process does counts any more"
            )

    def _confirmed(self, offset: int) -> None:
        self.mark = LinkMark(
            offset=offset,
            next_sequence=self.mark.next_sequence + 1,
            incarnation=self._incarnation,
        )

    def _records(self, frame: Outgoing, sequence: int) -> list[FrameRecord]:
        writer = FrameWriter(
            sender=self._sender,
            incarnation=self._incarnation,
            next_sequence=sequence,
        )
        records = writer.write(
            kind=frame.kind,
            schema_id=frame.schema_id,
            payload=frame.payload,
            epoch=frame.epoch,
            step=frame.step,
            micro_batch=frame.micro_batch,
            window=WINDOW,
        )
        if frame.headers:
            return [replace(r, headers=r.headers + frame.headers) for r in records]
        return records

    async def _append(self, records: list[FrameRecord], what: str) -> int:
        place, size = Place(topic=self.topic, offset=self._end), sum(len(r.value) for r in records)
        began = perf_counter()
        with doing(f"{what} ({place})"), or_restored(), self._speed.appending(size):
            offset = await self._transport.append(
                self.topic,
                [Record(key=r.key, headers=r.headers, value=r.value) for r in records],
            )
        self._is_near = perf_counter() - began <= NEAR_S
        return offset

    def _count(self, frame: Outgoing) -> None:
        key, headers = self._sender.encode(), record_headers(frame.kind, frame.epoch, frame.step)
        raw = frame_wire_size(frame.raw_bytes, key=key, headers=headers)
        headers += frame.headers
        wire = frame_wire_size(len(frame.payload), key=key, headers=headers)
        self._ledger.count(self.receiver, frame.kind, frame.codec, raw_bytes=raw, wire_bytes=wire)
