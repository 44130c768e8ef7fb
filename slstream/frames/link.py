"""Both ends of a link: numbering frames, and accepting them by log order.

A link is one topic partition. Its sender numbers frames without gaps; a restarted sender goes on
with the next number under a higher *incarnation*. Every reader of the log folds it with the same
rules, so all agree on which frame stands, whatever was appended twice or by a process that should
have been dead:

=============================================  ====================================================
a record with                                  is
=============================================  ====================================================
a lower incarnation than seen before           ignored: its writer is fenced
a higher incarnation                           the new incarnation begins here, which must be the
                                               start of a frame; an incomplete frame is abandoned
a sequence number below the next               ignored: the first frame of a number stands
... but other bytes than that frame, in the    an error: two processes share one incarnation
same incarnation
the next sequence number                       taken
a sequence number above the next               an error: records were lost
=============================================  ====================================================

The same holds for the chunks within a frame. A new incarnation may therefore repeat the frame that
its predecessor left incomplete.

A new process begins with a *fence*: a record of its incarnation under number 0, which is taken, so
that readers ignore it, and from there on all that older processes append. Whether a frame that it
appends stands is for the log to say: when it lies right behind the process's own last record, yes;
otherwise the process reads the link back.
"""

from __future__ import annotations

from dataclasses import dataclass

from slstream.errors import FrameTooLarge, SequenceError
from slstream.frames.chunking import (
    CHUNK_BYTES,
    PartialFrame,
    check_payload,
    chunk_count,
    chunk_frame,
    frame_of,
)
from slstream.frames.frame import Frame
from slstream.frames.header import HEADER_BYTES, FrameHeader, FrameKind, decode_header

MAX_FRAME_BYTES = 67_108_864
"""Largest payload that a reader accepts by default."""

_REMEMBERED_BYTES = 4_194_304
_REMEMBERED_FRAMES = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkPosition:
    """Where a link stands between two frames: all that a checkpoint must keep of it."""

    next_sequence: int = 0
    """Number of the next frame."""
    incarnation: int = 0
    """Highest incarnation so far; 0 before the first record."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkStatistics:
    """What a reader has seen since it was built."""

    records: int
    """Records accepted or ignored; those that raised are not counted."""
    frames: int
    """Frames delivered."""
    duplicates: int
    """Records ignored because their number had been taken."""
    fenced: int
    """Records ignored because a newer incarnation had begun."""
    abandoned: int
    """Incomplete frames given up because a newer incarnation began."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameRecord:
    """What to append to a link's topic, in a transport's terms."""

    key: bytes
    """Id of the sending party."""
    headers: tuple[tuple[str, bytes], ...]
    """``kind`` and ``step`` (epoch/step) as UTF-8, for people who look at a topic with Kafka's
    tools. Nothing reads these two back."""
    value: bytes
    """Header and one chunk of the payload."""


class FrameWriter:
    """The sending end of one link. Not for several threads at once."""

    __slots__ = ("_chunk_bytes", "_incarnation", "_key", "_next_sequence")

    def __init__(
        self,
        *,
        sender: str,
        incarnation: int,
        next_sequence: int = 0,
        chunk_bytes: int = CHUNK_BYTES,
    ) -> None:
        """Go on with ``next_sequence``, as the link's log says.

        Raises:
            ValueError: the incarnation or chunk size is below 1.
        """
        if incarnation < 1:
            raise ValueError(f"incarnation: expected 1 or more, found {incarnation}")
        chunk_count(0, chunk_bytes)
        self._key = sender.encode()
        self._incarnation = incarnation
        self._next_sequence = next_sequence
        self._chunk_bytes = chunk_bytes

    @property
    def position(self) -> LinkPosition:
        """Number of the next frame, and this sender's incarnation."""
        return LinkPosition(next_sequence=self._next_sequence, incarnation=self._incarnation)

    def write(
        self,
        *,
        kind: FrameKind,
        schema_id: int,
        payload: bytes,
        epoch: int = 0,
        step: int = 0,
        micro_batch: int = 0,
        window: int = 0,
    ) -> list[FrameRecord]:
        """Number a frame and turn it into records: append all of them, in order, at once.

        Raises:
            ValueError: a field is outside its range; no number was used up.
        """
        frame = Frame(
            kind=kind,
            schema_id=schema_id,
            incarnation=self._incarnation,
            sequence=self._next_sequence,
            epoch=epoch,
            step=step,
            micro_batch=micro_batch,
            window=window,
            payload=payload,
        )
        values = chunk_frame(frame, self._chunk_bytes)
        self._next_sequence += 1
        headers = record_headers(kind, epoch, step)
        return [FrameRecord(key=self._key, headers=headers, value=value) for value in values]

    def fence(self) -> FrameRecord:
        """A record that fences older processes off a link that holds a frame already."""
        frame = Frame(
            kind=FrameKind.CONTROL,
            schema_id=1,
            incarnation=self._incarnation,
            sequence=0,
            epoch=0,
            step=0,
            micro_batch=0,
            window=0,
            payload=b"",
        )
        (value,) = chunk_frame(frame)
        return FrameRecord(key=self._key, headers=(("kind", b"fence"),), value=value)


def record_headers(kind: FrameKind, epoch: int, step: int) -> tuple[tuple[str, bytes], ...]:
    """Record headers of a frame, for instance ``(("kind", b"gradient"), ("step", b"3/17"))``."""
    return (("kind", kind.label.encode()), ("step", b"%d/%d" % (epoch, step)))


CHOICE_HEADER = "choice"
"""Of a frame's records, where its sender has chosen another codec: why, in words."""

_MOST_CHOICE = 400


def choice_of(headers: tuple[tuple[str, bytes], ...]) -> str:
    """What :data:`CHOICE_HEADER` says, whoever wrote it; empty without one."""
    said = next((value for name, value in headers if name == CHOICE_HEADER), b"")
    return said[:_MOST_CHOICE].decode(errors="replace")


class FrameReader:
    """The receiving end of one link: record values in log order in, frames out.

    Holds one incomplete frame at most, and the records of the last 256 frames up to 4 MiB, to tell
    a repetition from a second writer; a repetition of an older record is ignored without comparing
    it. Not for several threads at once.

    To resume, build a reader from :attr:`position` and push the records after the one with which
    :meth:`push` last returned a frame.
    """

    __slots__ = (
        "_abandoned",
        "_duplicates",
        "_fenced",
        "_fences",
        "_frames",
        "_incarnation",
        "_max_frame_bytes",
        "_next_sequence",
        "_partial",
        "_recent",
        "_recent_bytes",
        "_records",
    )

    def __init__(
        self,
        *,
        position: LinkPosition | None = None,
        max_frame_bytes: int = MAX_FRAME_BYTES,
    ) -> None:
        """Start at ``position``, by default at the beginning of the log.

        Args:
            position: of a reader that has folded the records before.
            max_frame_bytes: byte budget: the largest payload that is put together.
        """
        start = position or LinkPosition()
        self._next_sequence = start.next_sequence
        self._incarnation = start.incarnation
        self._max_frame_bytes = max_frame_bytes
        self._partial: PartialFrame | None = None
        self._recent: dict[int, list[bytes]] = {}
        self._recent_bytes = 0
        self._records = self._frames = self._duplicates = self._fenced = self._abandoned = 0
        self._fences = 0

    @property
    def position(self) -> LinkPosition:
        """Where the link stands; an incomplete frame is not part of it."""
        return LinkPosition(next_sequence=self._next_sequence, incarnation=self._incarnation)

    @property
    def fences(self) -> int:
        """How many of the duplicates say only that a new incarnation has begun."""
        return self._fences

    @property
    def statistics(self) -> LinkStatistics:
        """Counts since the reader was built."""
        return LinkStatistics(
            records=self._records,
            frames=self._frames,
            duplicates=self._duplicates,
            fenced=self._fenced,
            abandoned=self._abandoned,
        )

    def push(self, value: bytes) -> Frame | None:
        """Take the next record of the log; the frame that it completes, if it does.

        An error leaves the reader as it was. Messages name field and frame; the caller, who
        knows them, adds topic and offset.

        Raises:
            FrameTooLarge: the record or the claimed payload is above the byte budget; nothing was
                stored.
            TruncatedFrame, BadMagic, UnsupportedVersion, InvalidHeader: see ``decode_header``; also
                when the sizes do not add up or the chunks of a frame disagree.
            SequenceError: a gap, or two different records under one number and incarnation.
        """
        header = self._check_alone(value)
        if header.incarnation < self._incarnation:
            self._records += 1
            self._fenced += 1
            return None
        newer = header.incarnation > self._incarnation
        partial = None if newer else self._partial
        # Everything that can raise comes before the first change of state.
        taken = self._is_taken(header, partial, newer=newer)
        frame = None
        if taken:
            if not newer:
                self._check_repetition(header, value)
        elif header.chunk_count == 1:
            frame = frame_of(header, value[HEADER_BYTES:])
        elif partial is None:
            partial = PartialFrame(header, value)
        else:
            frame = partial.add(header, value)

        self._records += 1
        if newer:
            self._begin_incarnation(header.incarnation)
        if taken:
            self._duplicates += 1
            self._fences += newer
        elif frame is None:
            self._partial = partial
        else:
            self._finish(partial.values() if partial else [value])
        return frame

    def _check_alone(self, value: bytes) -> FrameHeader:
        """All that one record shows by itself, before anything is stored."""
        limit = self._max_frame_bytes
        if len(value) > HEADER_BYTES + limit:
            raise FrameTooLarge(
                f"record: expected at most {HEADER_BYTES + limit} bytes, found {len(value)}"
            )
        header = decode_header(value)
        if header.payload_bytes > limit:
            raise FrameTooLarge(
                f"payload of frame {header.sequence}: expected at most {limit} bytes, "
                f"found a claim of {header.payload_bytes}; raise max_frame_bytes if it is right"
            )
        if header.chunk_count == 1:
            check_payload(header, len(value) - HEADER_BYTES, header.payload_bytes)
        return header

    def _is_taken(self, header: FrameHeader, partial: PartialFrame | None, *, newer: bool) -> bool:
        """Whether an earlier record has this record's place; raises when it is not the next."""
        expected = partial.received if partial else 0
        if newer and header.chunk_index != 0:
            raise SequenceError(
                "expected a new incarnation to begin with chunk 0 of a frame, found "
                f"{_place(header)}: records of this link were lost"
            )
        if header.sequence < self._next_sequence:
            return True
        if header.sequence > self._next_sequence or header.chunk_index > expected:
            raise SequenceError(
                f"expected frame {self._next_sequence}, chunk {expected}, found {_place(header)}: "
                "records of this link were lost"
            )
        return header.chunk_index < expected

    def _check_repetition(self, header: FrameHeader, value: bytes) -> None:
        index = header.chunk_index
        if header.sequence == self._next_sequence and self._partial is not None:
            same = self._partial.chunk(index) == value
        else:
            frame = self._recent.get(header.sequence)
            same = frame is None or (index < len(frame) and frame[index] == value)
        if not same:
            raise SequenceError(
                f"{_place(header)}: expected a repetition to have the same bytes, found others: "
                "two processes of the sending party run under one incarnation; stop one of them"
            )

    def _begin_incarnation(self, incarnation: int) -> None:
        self._abandoned += self._partial is not None
        self._partial = None
        self._incarnation = incarnation
        self._recent.clear()
        self._recent_bytes = 0

    def _finish(self, values: list[bytes]) -> None:
        """Count a whole frame and remember its records within the limit, the newest longest."""
        self._partial = None
        self._frames += 1
        self._recent[self._next_sequence] = values
        self._recent_bytes += sum(map(len, values))
        while self._recent_bytes > _REMEMBERED_BYTES or len(self._recent) > _REMEMBERED_FRAMES:
            oldest = self._recent.pop(next(iter(self._recent)))
            self._recent_bytes -= sum(map(len, oldest))
        self._next_sequence += 1


def _place(header: FrameHeader) -> str:
    return (
        f"frame {header.sequence}, chunk {header.chunk_index} of incarnation {header.incarnation}"
    )
