"""``zstd``: Zstandard frames, lossless; pays on quantised integers and on sparse floats."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import zstandard

from slstream.codecs.contract import Buffer, BytesCodec
from slstream.codecs.parameters import require_integer
from slstream.errors import DecodeError


@dataclass(frozen=True, slots=True)
class Zstd(BytesCodec):
    """Zstandard frames (RFC 8878), with their content size and without a checksum.

    Attributes:
        level: 1 (fast) to 19 (small).
    """

    id: ClassVar[str] = "zstd"

    level: int = 1

    def __post_init__(self) -> None:
        """Refuse parameters out of range."""
        require_integer(self, "level", 1, 19)

    def compress(self, data: Buffer) -> bytes:
        """One frame."""
        # Compressor objects may not be shared between threads; making one costs microseconds.
        compressor = zstandard.ZstdCompressor(
            level=self.level, write_content_size=True, write_checksum=False
        )
        return compressor.compress(data)

    def decompress(self, data: Buffer, max_bytes: int) -> bytes:
        """Exactly one frame; nothing may follow it."""
        try:
            size = zstandard.frame_content_size(data)
            # The call allocates whatever size a frame claims, and then holds the frame to it.
            if 0 <= size <= max_bytes:
                return zstandard.ZstdDecompressor().decompress(data, allow_extra_data=False)
        except zstandard.ZstdError as exc:
            raise DecodeError(f"stage 'zstd': {len(data)} bytes are not a frame: {exc}") from exc
        claim = f"claims {size}" if size >= 0 else "claims no size"
        raise DecodeError(
            f"stage 'zstd': expected a frame of at most {max_bytes} bytes, it {claim}"
        )
