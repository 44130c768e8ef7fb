"""Cutting a frame into records that any broker accepts, and putting them together again.

A payload of up to ``chunk_bytes`` is one record. A larger one is cut into consecutive records of
the same partition, each with the full header; all but the last hold the same number of bytes, so
that the first record already tells whether the claimed sizes fit each other. The rules follow
LinkedIn's li-apache-kafka-clients (large message segments), with their fields in our header.
"""

from __future__ import annotations

from slstream.errors import InvalidHeader, TruncatedFrame
from slstream.frames.frame import Frame
from slstream.frames.header import (
    HEADER_BYTES,
    MAX_CHUNKS,
    MAX_PAYLOAD_BYTES,
    FrameHeader,
    encode_header,
)

CHUNK_BYTES = 524_288
"""Payload of one record by default: fits stock broker limits, and the fastest size measured."""


def chunk_count(payload_bytes: int, chunk_bytes: int = CHUNK_BYTES) -> int:
    """Number of records that a payload takes; an empty payload takes one.

    Raises:
        ValueError: ``chunk_bytes`` is below 1, or the payload does not fit the header's fields.
    """
    if chunk_bytes < 1:
        raise ValueError(f"chunk_bytes: expected 1 or more, found {chunk_bytes}")
    if payload_bytes > MAX_PAYLOAD_BYTES:
        raise ValueError(
            f"payload: expected at most {MAX_PAYLOAD_BYTES} bytes, found {payload_bytes}"
        )
    count = max(1, -(-payload_bytes // chunk_bytes))
    if count > MAX_CHUNKS:
        raise ValueError(
            f"chunk_bytes: {chunk_bytes} would cut {payload_bytes} bytes into {count} records, "
            f"at most {MAX_CHUNKS} are possible; expected {-(-payload_bytes // MAX_CHUNKS)} or more"
        )
    return count


def chunk_frame(frame: Frame, chunk_bytes: int = CHUNK_BYTES) -> list[bytes]:
    """The record values of a frame, in the order in which they must be appended.

    Args:
        frame: its payload is copied once.
        chunk_bytes: most payload bytes in one record.

    Raises:
        ValueError: a field is outside its range, or the payload needs too many chunks.
    """
    size = len(frame.payload)
    count = chunk_count(size, chunk_bytes)
    payload = memoryview(frame.payload)
    return [
        b"".join(
            (
                encode_header(_header(frame, index, count)),
                payload[index * chunk_bytes : (index + 1) * chunk_bytes],
            )
        )
        for index in range(count)
    ]


class PartialFrame:
    """A frame of several chunks of which the first ones have come.

    Holds the records themselves, so its memory is what was really received: at most the payload
    that the header claims plus about 100 bytes for each chunk.
    """

    __slots__ = ("_chunk_bytes", "_values", "header")

    def __init__(self, header: FrameHeader, value: bytes) -> None:
        """Begin with chunk 0, whose header is ``header``.

        Raises:
            TruncatedFrame: the chunk is so small that the claimed count could not hold the payload.
            InvalidHeader: it is so large that fewer chunks than claimed would hold the payload.
        """
        self.header = header
        """Of chunk 0."""
        self._values = [value]
        self._chunk_bytes = size = len(value) - HEADER_BYTES
        claim = f"{header.payload_bytes} bytes in {header.chunk_count} equal chunks"
        if size * header.chunk_count < header.payload_bytes:
            raise TruncatedFrame(f"payload: expected {claim}, found {size} bytes in the first")
        if size * (header.chunk_count - 1) >= header.payload_bytes:
            raise InvalidHeader(f"payload: expected {claim}, found {size} bytes in the first")

    @property
    def received(self) -> int:
        """Number of chunks that have come; the index of the one expected next."""
        return len(self._values)

    def chunk(self, index: int) -> bytes:
        """The record value of a chunk that has come."""
        return self._values[index]

    def values(self) -> list[bytes]:
        """The record values that have come, in order."""
        return list(self._values)

    def add(self, header: FrameHeader, value: bytes) -> Frame | None:
        """Take the next chunk; the whole frame when it was the last one.

        Unchanged when it raises.

        Raises:
            InvalidHeader: another header field than the index differs from the first chunk's, or
                the chunk is too long.
            TruncatedFrame: the chunk is too short.
        """
        first = self.header
        for name in FrameHeader.__slots__:
            if name != "chunk_index" and getattr(header, name) != getattr(first, name):
                raise InvalidHeader(
                    f"{name}: expected {getattr(first, name)} as in chunk 0 of frame "
                    f"{first.sequence}, found {getattr(header, name)} in chunk {header.chunk_index}"
                )
        last = header.chunk_index == header.chunk_count - 1
        expected = (
            header.payload_bytes - self._chunk_bytes * (header.chunk_count - 1)
            if last
            else self._chunk_bytes
        )
        check_payload(header, len(value) - HEADER_BYTES, expected)
        self._values.append(value)
        if not last:
            return None
        return frame_of(header, b"".join(memoryview(v)[HEADER_BYTES:] for v in self._values))


def check_payload(header: FrameHeader, found: int, expected: int) -> None:
    """Compare the size of one record's payload with what its place in the frame demands.

    Raises:
        TruncatedFrame: it is shorter.
        InvalidHeader: it is longer.
    """
    if found == expected:
        return
    text = (
        f"payload of frame {header.sequence}, chunk {header.chunk_index} of {header.chunk_count}: "
        f"expected {expected} bytes, found {found}"
    )
    if found < expected:
        raise TruncatedFrame(text)
    raise InvalidHeader(text)


def frame_of(header: FrameHeader, payload: bytes) -> Frame:
    """A frame from any of its chunks' headers and its whole payload."""
    return Frame(
        kind=header.kind,
        schema_id=header.schema_id,
        incarnation=header.incarnation,
        sequence=header.sequence,
        epoch=header.epoch,
        step=header.step,
        micro_batch=header.micro_batch,
        window=header.window,
        payload=payload,
    )


def _header(frame: Frame, index: int, count: int) -> FrameHeader:
    return FrameHeader(
        kind=frame.kind,
        schema_id=frame.schema_id,
        incarnation=frame.incarnation,
        sequence=frame.sequence,
        epoch=frame.epoch,
        step=frame.step,
        micro_batch=frame.micro_batch,
        window=frame.window,
        chunk_index=index,
        chunk_count=count,
        payload_bytes=len(frame.payload),
    )
