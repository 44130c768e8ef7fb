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
    """Zstandard (RFC 8878), without content size and checksum: the frame header has both lengths.

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
            level=self.level, write_content_size=False, write_checksum=False
        )
        return compressor.compress(data)

    def decompress(self, data: Buffer, max_bytes: int) -> bytes:
        """Exactly one frame; nothing may follow it."""
        try:
            # The one-shot call would allocate whatever size a frame claims; where none is claimed
            # it obeys the limit, of which 0 means no limit.
            size = zstandard.frame_content_size(data)
            if size <= max_bytes:
                content = zstandard.ZstdDecompressor().decompress(
                    data, max_output_size=max(max_bytes, 1), allow_extra_data=False
                )
                size = len(content)
        except zstandard.ZstdError as exc:
            raise DecodeError(
                f"stage 'zstd': {len(data)} bytes are not a frame of at most {max_bytes} bytes: "
                f"{exc}"
            ) from exc
        if size > max_bytes:
            raise DecodeError(f"stage 'zstd': expected at most {max_bytes} bytes, got {size}")
        return content
