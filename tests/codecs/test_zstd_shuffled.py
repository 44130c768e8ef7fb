from __future__ import annotations

import struct

import numpy as np
import pytest
import zstandard

from slstream.codecs.chain import CodecChain
from slstream.codecs.contract import CodecContext
from slstream.codecs.zstd_shuffled import ZstdShuffled
from slstream.errors import CodecConfigError, DecodeError
from slstream.testing.codecs import activation, gradient


def frame(content: bytes) -> bytes:
    return zstandard.ZstdCompressor(write_content_size=True).compress(content)


def shuffled(*planes: bytes) -> bytes:
    """What a codec of as many planes writes, or would."""
    frames = [frame(plane) for plane in planes]
    sizes = [len(each) for each in frames[:-1]]
    return struct.pack(f"<{len(sizes)}Q", *sizes) + b"".join(frames)


def bits(tensor_codec: str, stage: dict[str, object], rows: int, width: int) -> list[float]:
    """Bits per element of an activation and of a gradient."""
    chain = CodecChain.from_config([{"id": tensor_codec}, stage])
    tensors = activation(rows, width), gradient(rows, width)
    return [8 * len(chain.encode(tensor, CodecContext())) / tensor.size for tensor in tensors]


def test_planes_are_frames_of_every_second_or_fourth_byte() -> None:
    content = bytes(range(11))
    assert ZstdShuffled().compress(content) == shuffled(content[::2], content[1::2])
    planes = [content[p::4] for p in range(4)]
    assert ZstdShuffled(width=4).compress(content) == shuffled(*planes)
    assert ZstdShuffled(width=4).decompress(shuffled(*planes), 11) == content


@pytest.mark.parametrize("width", [2, 4])
@pytest.mark.parametrize("size", [0, 1, 2, 3, 4, 5, 7, 4096, 4097])
def test_any_length_round_trips(width: int, size: int) -> None:
    content = np.random.default_rng(size).bytes(size)
    codec = ZstdShuffled(width=width)
    assert codec.decompress(codec.compress(content), size) == content


@pytest.mark.parametrize(
    ("tensor_codec", "width", "most"),
    [("fp16", 2, (9.2, 15.0)), ("bf16", 2, (7.9, 12.0)), ("raw32", 4, (18.3, 28.1))],
)
def test_size_is_as_stated_and_below_that_of_plain_zstd(
    tensor_codec: str, width: int, most: tuple[float, float]
) -> None:
    stage: dict[str, object] = {"id": "zstd_shuffled", "width": width}
    large = bits(tensor_codec, stage, 512, 256)
    assert np.all(np.array(large) < most)
    assert np.all(np.array(large) < bits(tensor_codec, {"id": "zstd"}, 512, 256))
    # In one frame the planes of a small gradient would share statistics, and gain nothing.
    small = bits(tensor_codec, stage, 128, 64)[1]
    assert small < 0.97 * bits(tensor_codec, {"id": "zstd"}, 128, 64)[1]


def test_parameters_out_of_range_are_refused() -> None:
    with pytest.raises(CodecConfigError) as caught:
        ZstdShuffled(width=3)
    assert str(caught.value) == "width of codec 'zstd_shuffled' must be 2 or 4; got 3"
    for width in (1, 8, 2.0, True):
        with pytest.raises(CodecConfigError, match="width of codec 'zstd_shuffled' must be"):
            ZstdShuffled(width=width)  # type: ignore[arg-type]
    with pytest.raises(CodecConfigError, match="level of codec 'zstd_shuffled'"):
        ZstdShuffled(level=20)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "expected 8 bytes or more, got 0"),
        (bytes(7), "expected 8 bytes or more, got 7"),
        (b"\xff" * 8, "expected 18446744073709551623 bytes or more, got 8"),
        (bytes(8), "a plane is not a frame: "),
        (shuffled(b"aaa", b"b"), r"of 2 planes of at most 100 bytes together, they claim \[3, 1\]"),
        (shuffled(b"a", b"bb"), r"they claim \[1, 2\]"),
        (shuffled(b"a" * 51, b"b" * 50), r"they claim \[51, 50\]"),
        (shuffled(b"aa", b"bb") + b"\0", "plane 1: .*unused data"),
        (shuffled(b"aa", b"bb")[:-1], "plane 1: stage 'zstd'"),
    ],
)
def test_bytes_that_no_encoder_writes_are_refused(data: bytes, message: str) -> None:
    with pytest.raises(DecodeError, match=f"stage 'zstd_shuffled'.*{message}"):
        ZstdShuffled().decompress(data, 100)


def test_a_frame_that_claims_no_size_or_a_tebibyte_is_refused_before_anything_is_allocated() -> (
    None
):
    huge = b"\x28\xb5\x2f\xfd" + b"\xe0" + (1 << 40).to_bytes(8, "little") + b"\x01\x00\x00"
    silent = zstandard.ZstdCompressor(write_content_size=False).compress(b"aa")
    for claim, each in ((1 << 40, huge), (-1, silent)):
        data = struct.pack("<Q", len(each)) + each + each
        with pytest.raises(DecodeError) as caught:
            ZstdShuffled().decompress(data, 1000)
        assert str(caught.value) == (
            "stage 'zstd_shuffled': expected frames of 2 planes of at most 1000 bytes together, "
            f"they claim [{claim}, {claim}]"
        )


def test_a_frame_that_claims_too_little_is_refused() -> None:
    honest = frame(b"a" * 200)
    lying = honest[:5] + bytes([100]) + honest[6:]
    assert zstandard.frame_content_size(lying) == 100
    data = struct.pack("<Q", len(lying)) + lying + lying
    with pytest.raises(DecodeError, match=r"stage 'zstd_shuffled': plane 0: .*are not a frame"):
        ZstdShuffled().decompress(data, 1000)
