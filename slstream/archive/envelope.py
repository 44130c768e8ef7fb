"""One record of a log as the data of one MCAP message, and the digest over such records.

MCAP knows neither offsets of 64 bits, nor keys, nor record headers; they stand in front of the
value, which is kept byte for byte. Big-endian::

    offset  size  field          range and meaning
    ------  ----  -------------  ---------------------------------------------------------------
         0     1  version        1
         1     8  offset         of the record in its partition
         9     4  key bytes      -1: the record has no key
        13     2  header count
        15     -  key
         -     -  headers        for each: u16 name bytes, name (UTF-8), u32 value bytes, value
         -     -  value          the rest

The message's ``sequence`` holds the lower 32 bits of the offset; ``log_time`` and ``publish_time``
hold the record's timestamp in nanoseconds.
"""

from __future__ import annotations

import hashlib
import struct

from slstream.transport.contract import StoredRecord

ENVELOPE_VERSION = 1
ENVELOPE_HEAD_BYTES = 15

_HEAD = struct.Struct(">BQiH")
_NAME_BYTES = struct.Struct(">H")
_VALUE_BYTES = struct.Struct(">I")
_DIGEST_PREFIX = struct.Struct(">QQ")


def encode_record(record: StoredRecord) -> bytes:
    """The envelope and the value; topic, partition and timestamp are the message's business.

    Raises:
        ValueError: more or longer headers than the layout can say.
    """
    key = b"" if record.key is None else record.key
    try:
        parts = [
            _HEAD.pack(
                ENVELOPE_VERSION,
                record.offset,
                -1 if record.key is None else len(key),
                len(record.headers),
            ),
            key,
        ]
        for name, value in record.headers:
            encoded = name.encode()
            parts += (_NAME_BYTES.pack(len(encoded)), encoded)
            parts += (_VALUE_BYTES.pack(len(value)), value)
    except struct.error as error:
        raise ValueError(f"the record's headers do not fit the archive's layout: {error}") from None
    return b"".join((*parts, record.value))


def decode_record(data: bytes, *, topic: str, partition: int, timestamp_ms: int) -> StoredRecord:
    """Inverse of :func:`encode_record`, for foreign bytes.

    Raises:
        ValueError: not such an envelope; says what was expected.
    """
    offset = decode_offset(data)
    _, _, key_bytes, header_count = _HEAD.unpack_from(data)
    if key_bytes < -1:
        raise ValueError(f"key bytes: expected -1 or more, found {key_bytes}")
    position = ENVELOPE_HEAD_BYTES
    key = None
    if key_bytes >= 0:
        key, position = _take(data, position, key_bytes)
    headers = []
    for _ in range(header_count):
        size, position = _take(data, position, _NAME_BYTES.size)
        name, position = _take(data, position, _NAME_BYTES.unpack(size)[0])
        size, position = _take(data, position, _VALUE_BYTES.size)
        value, position = _take(data, position, _VALUE_BYTES.unpack(size)[0])
        headers.append((name.decode(), value))
    return StoredRecord(
        topic=topic,
        partition=partition,
        offset=offset,
        timestamp_ms=timestamp_ms,
        value=data[position:],
        key=key,
        headers=tuple(headers),
    )


def decode_offset(data: bytes) -> int:
    """The offset at the start of an envelope; looks at no more than its fixed part.

    Raises:
        ValueError: too short, or of another version.
    """
    if len(data) < ENVELOPE_HEAD_BYTES:
        raise ValueError(f"record: expected {ENVELOPE_HEAD_BYTES} bytes or more, found {len(data)}")
    version, offset, _, _ = _HEAD.unpack_from(data)
    if version != ENVELOPE_VERSION:
        raise ValueError(f"record: expected envelope version {ENVELOPE_VERSION}, found {version}")
    return int(offset)


def _take(data: bytes, position: int, size: int) -> tuple[bytes, int]:
    end = position + size
    if end > len(data):
        raise ValueError(f"record: expected {end} bytes or more, found {len(data)}")
    return data[position:end], end


class RecordDigest:
    """SHA-256 over the records of a partition, in the order of their offsets.

    What goes in for each record: its timestamp in milliseconds as u64, the number of bytes of its
    envelope with the value as u64, both big-endian, and these bytes. The lengths make it impossible
    for two different sequences of records to give the same input.
    """

    def __init__(self) -> None:
        self._sha256 = hashlib.sha256()

    def add(self, timestamp_ms: int, data: bytes) -> None:
        """Take the next record."""
        self._sha256.update(_DIGEST_PREFIX.pack(timestamp_ms, len(data)))
        self._sha256.update(data)

    def hexdigest(self) -> str:
        """64 hexadecimal digits."""
        return self._sha256.hexdigest()
