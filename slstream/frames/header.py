"""The fixed header at the start of every record of a link.

Big-endian, 40 bytes. The first five are the Confluent wire format, so that existing tools can look
the schema up; what is the same for all frames of a schema is in the schema, not here::

    offset  size  field          range and meaning
    ------  ----  -------------  ---------------------------------------------------------------
         0     1  magic          0x00
         1     4  schema id      1 .. 2**32-1; names the document that explains the payload
         5     1  frame version  1
         6     1  kind           1 activation, 2 gradient, 3 evaluation,
                                 16 control (JSON), 17 ids, 18 match
         7     1  flags          bit 0 sealed, bit 1 signed, bit 2 chained; the others must be 0
         8     4  incarnation    1 .. 2**32-1; which start of the sending process: the fencing token
        12     8  sequence       from 0, no gaps within a link; shared by all chunks of a frame
        20     2  epoch
        22     4  step
        26     2  micro-batch
        28     2  window         how many further steps the sender is ready to buffer (credit)
        30     2  chunk index    0 .. chunk count - 1
        32     2  chunk count    1 or more
        34     4  payload bytes  of the whole frame, all chunks together
        38     2  trailer bytes  after the payload, in this record
        40     -  payload        this chunk of it
         -     -  trailer        seal, signature and chain

Version 1 writes no flag and no trailer and refuses both: reading a sealed frame as if it were not
would be worse than stopping.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import NoReturn

from slstream.errors import BadMagic, InvalidHeader, TruncatedFrame, UnsupportedVersion

FRAME_VERSION = 1
HEADER_BYTES = 40

_MAGIC = 0
_LAYOUT = struct.Struct(">BIBBBIQHIHHHHIH")


class FrameKind(IntEnum):
    """What a frame carries."""

    ACTIVATION = 1
    """Encoded output of a base model; goes up."""
    GRADIENT = 2
    """Encoded gradient of the loss by an activation; comes back."""
    EVALUATION = 3
    """Encoded output of a base model in evaluation mode; nothing comes back."""
    CONTROL = 16
    """A JSON message of the session."""
    IDS = 17
    """Keyed digests of row ids, for the alignment."""
    MATCH = 18
    """Which of the sent ids are in the intersection."""

    @property
    def label(self) -> str:
        """Lower-case name, as in schemas and record headers."""
        return self.name.lower()


class FrameFlag(IntFlag):
    """Bits of the flags byte; version 1 knows their names only, to refuse them by name."""

    SEALED = 1
    SIGNED = 2
    CHAINED = 4


_KINDS = {int(kind): kind for kind in FrameKind}
_KNOWN_FLAGS = int(FrameFlag.SEALED | FrameFlag.SIGNED | FrameFlag.CHAINED)
_LARGEST = {
    "schema_id": 2**32 - 1,
    "incarnation": 2**32 - 1,
    "sequence": 2**64 - 1,
    "epoch": 2**16 - 1,
    "step": 2**32 - 1,
    "micro_batch": 2**16 - 1,
    "window": 2**16 - 1,
    "chunk_index": 2**16 - 1,
    "chunk_count": 2**16 - 1,
    "payload_bytes": 2**32 - 1,
}
"""Fields that are plain numbers, with what their width allows."""

MAX_CHUNKS = _LARGEST["chunk_count"]
MAX_PAYLOAD_BYTES = _LARGEST["payload_bytes"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameHeader:
    """The fields of one record's header that are not constants; ranges as in the offset table."""

    kind: FrameKind
    schema_id: int
    incarnation: int
    sequence: int
    epoch: int
    step: int
    micro_batch: int
    window: int
    chunk_index: int
    chunk_count: int
    payload_bytes: int
    """Of the whole frame, not of this chunk."""


def encode_header(header: FrameHeader) -> bytes:
    """The 40 bytes of a header.

    Raises:
        ValueError: a field is outside its range; the message names it.
    """
    try:
        data = _LAYOUT.pack(
            _MAGIC,
            header.schema_id,
            FRAME_VERSION,
            header.kind,
            0,
            header.incarnation,
            header.sequence,
            header.epoch,
            header.step,
            header.micro_batch,
            header.window,
            header.chunk_index,
            header.chunk_count,
            header.payload_bytes,
            0,
        )
    except struct.error:
        _refuse_range(header)
    problem = _broken_rule(header)
    if problem is not None:
        raise ValueError(problem)
    return data


def decode_header(data: bytes | bytearray | memoryview) -> FrameHeader:
    """Read the header at the start of foreign bytes; looks at nothing behind it.

    Args:
        data: a record's value, or as much of it as there is.

    Raises:
        TruncatedFrame: fewer than 40 bytes.
        BadMagic: the first byte is not 0.
        UnsupportedVersion: a frame version other than 1, or a frame that is sealed, signed or
            chained, which version 1 cannot read.
        InvalidHeader: an unknown kind or flag, a trailer, or a number outside its range.
    """
    if len(data) < HEADER_BYTES:
        raise TruncatedFrame(
            f"expected a frame header of {HEADER_BYTES} bytes, found {len(data)} bytes: "
            "the record was not written by slstream, or was cut"
        )
    (
        magic,
        schema_id,
        version,
        kind_number,
        flags,
        incarnation,
        sequence,
        epoch,
        step,
        micro_batch,
        window,
        chunk_index,
        chunk_count,
        payload_bytes,
        trailer_bytes,
    ) = _LAYOUT.unpack_from(data)
    kind = _KINDS.get(kind_number)
    if magic != _MAGIC or version != FRAME_VERSION or kind is None or flags or trailer_bytes:
        _refuse_constants(magic, version, kind_number, flags, trailer_bytes)
    header = FrameHeader(
        kind=kind,
        schema_id=schema_id,
        incarnation=incarnation,
        sequence=sequence,
        epoch=epoch,
        step=step,
        micro_batch=micro_batch,
        window=window,
        chunk_index=chunk_index,
        chunk_count=chunk_count,
        payload_bytes=payload_bytes,
    )
    problem = _broken_rule(header)
    if problem is not None:
        raise InvalidHeader(problem)
    return header


def _broken_rule(header: FrameHeader) -> str | None:
    """What is wrong among fields that all fit their widths."""
    if header.schema_id < 1:
        return "schema_id: expected 1 or more, found 0, which is never an id"
    if header.incarnation < 1:
        return "incarnation: expected 1 or more, found 0"
    if header.chunk_index >= header.chunk_count:
        return (
            f"chunk_index: expected less than chunk_count {header.chunk_count}, "
            f"found {header.chunk_index}"
        )
    # Every chunk of several holds at least one byte.
    if header.chunk_count > 1 and header.chunk_count > header.payload_bytes:
        return (
            f"chunk_count: expected at most one chunk for each of {header.payload_bytes} "
            f"payload bytes, found {header.chunk_count}"
        )
    return None


def _refuse_range(header: FrameHeader) -> NoReturn:
    for name, largest in _LARGEST.items():
        value = getattr(header, name)
        if not isinstance(value, int) or not 0 <= value <= largest:
            raise ValueError(f"{name}: expected an integer from 0 to {largest}, found {value!r}")
    raise ValueError(f"kind: expected a FrameKind, found {header.kind!r}")


def _refuse_constants(magic: int, version: int, kind: int, flags: int, trailer: int) -> NoReturn:
    """Name the first field that is not what version 1 writes, in the order of the layout."""
    if magic != _MAGIC:
        raise BadMagic(f"first byte: expected 0x00, found 0x{magic:02x}: not a record of slstream")
    if version != FRAME_VERSION:
        raise UnsupportedVersion(
            f"frame version: this release reads version {FRAME_VERSION}, found {version}; "
            "upgrade slstream on this side"
        )
    if kind not in _KINDS:
        known = ", ".join(f"{int(k)} ({k.label})" for k in FrameKind)
        raise InvalidHeader(f"kind: expected one of {known}, found {kind}")
    if flags & ~_KNOWN_FLAGS:
        raise InvalidHeader(f"flags: bits 3 to 7 must be 0, found 0b{flags:08b}")
    if flags:
        names = " and ".join(flag.name.lower() for flag in FrameFlag if flag & flags and flag.name)
        raise UnsupportedVersion(
            f"flags: the frame is {names}, which this release cannot read; upgrade slstream"
        )
    raise InvalidHeader(f"trailer bytes: expected 0 without flags, found {trailer}")
