"""``zstd_shuffled``: Zstandard over the planes of bytes of floats, lossless.

Sign and exponent of a float take few values, its mantissa takes all of them. Byte by byte in one
stream the one hides the other; in planes of their own (the "shuffle" of F. Alted's Blosc), the
exponents of neighbours compress to 2 to 4 bits, and zeros to next to nothing.

It is one codec and not a permutation in front of ``zstd``, as a chain leaves out a stage that does
not make its input smaller. And every plane gets a frame of its own: in one frame, planes share the
statistics of a block of 128 KiB, which costs gradients of up to 32,000 elements all of the gain.

Planes of width w: plane p has the bytes p, p + w, p + 2 * w, ... of the input.

    offset    size  field
    0         8w-8  sizes of the first w - 1 frames, u64 little-endian
    8w - 8    ...   the w frames (RFC 8878), with their content sizes and without checksums
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import zstandard

from slstream.codecs.contract import Buffer, BytesCodec
from slstream.codecs.parameters import require_integer
from slstream.codecs.payload import as_bytes
from slstream.codecs.zstd import Zstd
from slstream.errors import CodecConfigError, DecodeError


@dataclass(frozen=True, slots=True)
class ZstdShuffled(BytesCodec):
    """Zstandard frames, one for each plane of bytes; for ``fp16``, ``bf16`` and ``raw32``.

    Bits per element (of ``zstd``; activations of which half are zeros, then gradients):

        after    width  activations   gradients
        fp16     2      9.0 (9.5)     14.8 (15.5)
        bf16     2      7.7 (8.2)     11.8 (13.5)
        raw32    4      18.0 (18.0)   27.8 (30.4)

    Attributes:
        width: bytes of a number: 2, or 4 for ``raw32``.
        level: 1 (fast) to 19 (small); floats hardly gain above 1.
    """

    id: ClassVar[str] = "zstd_shuffled"

    width: int = 2
    level: int = 1

    def __post_init__(self) -> None:
        """Refuse parameters out of range."""
        require_integer(self, "width", 2, 4)
        if self.width == 3:
            raise CodecConfigError(f"width of codec {self.id!r} must be 2 or 4; got 3")
        require_integer(self, "level", 1, 19)

    def compress(self, data: Buffer) -> bytes:
        """Sizes and frames."""
        content = as_bytes(data)
        zstd = Zstd(level=self.level)
        frames = [zstd.compress(content[p :: self.width].tobytes()) for p in range(self.width)]
        sizes = [len(frame) for frame in frames[:-1]]
        return struct.pack(f"<{self.width - 1}Q", *sizes) + b"".join(frames)

    def decompress(self, data: Buffer, max_bytes: int) -> bytes:
        """Exactly the frames; nothing may follow them."""
        frames = self._frames(memoryview(data))
        try:
            sizes = [zstandard.frame_content_size(frame) for frame in frames]
        except zstandard.ZstdError as exc:
            raise DecodeError(f"stage {self.id!r}: a plane is not a frame: {exc}") from exc
        total = sum(sizes)
        planes = [len(range(p, total, self.width)) for p in range(self.width)]
        if total > max_bytes or sizes != planes:
            raise DecodeError(
                f"stage {self.id!r}: expected frames of {self.width} planes of at most {max_bytes} "
                f"bytes together, they claim {sizes}"
            )
        content = np.empty(total, np.uint8)
        for p, frame in enumerate(frames):
            try:
                content[p :: self.width] = as_bytes(Zstd().decompress(frame, sizes[p]))
            except DecodeError as exc:
                raise DecodeError(f"stage {self.id!r}: plane {p}: {exc}") from exc
        return content.tobytes()

    def _frames(self, data: memoryview) -> list[memoryview]:
        """The frames by plane.

        Raises:
            DecodeError: the sizes in front of them go beyond the end.
        """
        start = 8 * (self.width - 1)
        ends = [start]
        if len(data) >= start:
            for size in struct.unpack_from(f"<{self.width - 1}Q", data):
                ends.append(ends[-1] + size)
        if len(data) < ends[-1]:
            raise DecodeError(
                f"stage {self.id!r}: expected {ends[-1]} bytes or more, got {len(data)}"
            )
        return [data[a:b] for a, b in zip(ends, [*ends[1:], len(data)], strict=True)]
