from __future__ import annotations

import pytest
import zstandard

from slstream.codecs.zstd import Zstd
from slstream.errors import DecodeError


def test_a_frame_that_claims_a_tebibyte_is_refused_before_anything_is_allocated() -> None:
    # Magic, descriptor (single segment, 8-byte content size), 2**40, one empty last block.
    frame = b"\x28\xb5\x2f\xfd" + b"\xe0" + (1 << 40).to_bytes(8, "little") + b"\x01\x00\x00"
    assert zstandard.frame_content_size(frame) == 1 << 40
    with pytest.raises(DecodeError) as caught:
        Zstd().decompress(frame, 1000)
    assert (
        str(caught.value)
        == "stage 'zstd': expected a frame of at most 1000 bytes, it claims 1099511627776"
    )


def test_a_frame_that_claims_too_little_is_refused() -> None:
    honest = zstandard.ZstdCompressor(write_content_size=True).compress(b"a" * 200)
    lying = honest[:5] + bytes([100]) + honest[6:]
    assert zstandard.frame_content_size(lying) == 100
    with pytest.raises(DecodeError, match="bytes are not a frame: "):
        Zstd().decompress(lying, 1000)


def test_bytes_after_the_frame_are_refused() -> None:
    packed = Zstd().compress(b"abc" * 100)
    for surplus in (b"\0", packed):
        with pytest.raises(DecodeError, match="unused data"):
            Zstd().decompress(packed + surplus, 1000)


def test_a_frame_without_a_size_is_refused() -> None:
    packed = zstandard.ZstdCompressor(write_content_size=False).compress(b"abc" * 100)
    with pytest.raises(DecodeError, match="at most 1000 bytes, it claims no size"):
        Zstd().decompress(packed, 1000)
