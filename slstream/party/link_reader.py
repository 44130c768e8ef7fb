"""Reading one link's log on demand, in order, into whole frames."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from slstream.errors import RemoteProtocolError, SequenceError, SlstreamError
from slstream.frames.frame import Frame
from slstream.frames.header import FrameKind
from slstream.frames.link import FrameReader, LinkPosition, choice_of
from slstream.party.doing import RESTORE, doing, or_restored
from slstream.party.times import Times
from slstream.protocol.messages import Abort, Message, Refuse, decode_message
from slstream.transport.contract import StoredRecord, Transport

READ_AHEAD_BYTES = 16_777_216
"""What is held of a link that is read ahead; more stays in the log."""

_FRAME_COST = 1024
"""Counted for each frame that is held, beside its payload: what its objects take, generously."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A record of a link, for messages."""

    topic: str
    offset: int

    def __str__(self) -> str:
        return f"topic {self.topic}, offset {self.offset}"


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkMark:
    """How far a link is used up: all that a checkpoint keeps of it."""

    offset: int = 0
    """Of the record after the frame that was taken last."""
    next_sequence: int = 0
    incarnation: int = 0


class LinkReader:
    """A link's log as a queue of frames."""

    def __init__(
        self,
        transport: Transport,
        topic: str,
        sender: str,
        times: Times,
        on_record: Callable[[StoredRecord], None] = lambda record: None,
    ) -> None:
        """Start at the beginning of an existing topic.

        Args:
            transport: holds the log.
            topic: of the link.
            sender: the party that writes to it.
            times: gets the seconds of reading.
            on_record: called with each record, once it has been found to be one of the link.
        """
        self.topic = topic
        self.sender = sender
        self.last_word: Message | None = None
        """With which the sender gave up, as soon as it is read."""
        self._transport = transport
        self._times = times
        self._on_record = on_record
        self.seek(LinkMark())

    def seek(self, mark: LinkMark) -> None:
        """Go on behind the frame after which ``mark`` was taken."""
        self.mark = mark
        self._offset = mark.offset
        self._frames = FrameReader(
            position=LinkPosition(next_sequence=mark.next_sequence, incarnation=mark.incarnation)
        )
        self._ready: deque[tuple[Frame, int, str]] = deque()
        """With the offset of the last record, and :func:`choice_of` it."""
        self._ready_cost = 0

    @property
    def place(self) -> Place:
        """Of the next record that is not read yet."""
        return Place(topic=self.topic, offset=self._offset)

    @property
    def incarnation(self) -> int:
        """The highest one that has been read."""
        return self._frames.position.incarnation

    @property
    def is_ready(self) -> bool:
        """Whether a frame can be taken without reading."""
        return bool(self._ready)

    def peek(self) -> tuple[Frame, str]:
        """The next frame, which was read before and stays, and why its codec was chosen, if so."""
        frame, _, choice = self._ready[0]
        return frame, choice

    def take(self) -> Frame:
        """The next frame, which was read before."""
        frame, offset, _ = self._ready.popleft()
        self._ready_cost -= _FRAME_COST + len(frame.payload)
        self.mark = LinkMark(
            offset=offset + 1, next_sequence=frame.sequence + 1, incarnation=frame.incarnation
        )
        return frame

    async def read_ahead(self) -> bool:
        """Take what the log holds, within the budget, without waiting.

        Returns:
            Whether there was a record.

        Raises:
            RemoteProtocolError: a record is not a frame of this link.
            TransportError: the log cannot be read.
        """
        if self._ready_cost >= READ_AHEAD_BYTES:
            return True
        what = f"read from {self.sender} ({self.place})"
        with self._times.measure("transport_s"), doing(what), or_restored():
            records = await self._transport.read(self.topic, self._offset)
        for record in records:
            try:
                frame = self._frames.push(record.value)
                if frame is not None and frame.kind is FrameKind.CONTROL:
                    message = decode_message(frame.payload)
                    if isinstance(message, Abort | Refuse):
                        self.last_word = message
            except SlstreamError as error:
                remedy = f"; {RESTORE}" if isinstance(error, SequenceError) else ""
                raise RemoteProtocolError(
                    f"{self.sender} sent a record that is no frame of this link (topic "
                    f"{self.topic}, offset {record.offset}): {type(error).__name__}: {error}"
                    f"{remedy}"
                ) from error
            self._offset = record.offset + 1
            self._on_record(record)
            if frame is not None:
                self._ready.append((frame, record.offset, choice_of(record.headers)))
                self._ready_cost += _FRAME_COST + len(frame.payload)
        return bool(records)
