from __future__ import annotations

import numpy as np
import pytest

from slstream.codecs.chain import CodecChain
from slstream.codecs.contract import CodecContext, TensorSpec
from slstream.errors import CodecConfigError, DecodeError, UnknownCodec

CONTEXT = CodecContext()


def chain_of(*ids: str) -> CodecChain:
    return CodecChain.from_config([{"id": each} for each in ids])


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ([], "a codec chain must be a list with at least one codec config; got []"),
        (
            {"id": "raw32"},
            "a codec chain must be a list with at least one codec config; got {'id': 'raw32'}",
        ),
        (
            [{"id": "zstd"}],
            "a codec chain must start with a codec of tensors; 'zstd' is a codec of bytes: "
            "put a tensor codec such as 'raw32' before it",
        ),
        (
            [{"id": "raw32"}, {"id": "lz4"}, {"id": "ecsq"}],
            "'lz4' followed by 'ecsq' cannot work: 'lz4' gives bytes and 'ecsq' takes a tensor; "
            "keep one of them",
        ),
        (
            [{"id": "raw32"}, *[{"id": "lz4"}] * 9],
            "a codec chain has at most 8 bytes codecs; got 9",
        ),
    ],
)
def test_a_chain_that_cannot_work_is_refused_when_built(config: object, message: str) -> None:
    with pytest.raises(CodecConfigError) as caught:
        CodecChain.from_config(config)  # type: ignore[arg-type]
    assert str(caught.value) == message


def test_an_unknown_codec_in_a_chain_is_named() -> None:
    with pytest.raises(UnknownCodec, match="'zst'"):
        chain_of("raw32", "zst")


def test_chains_are_equal_by_config_and_print_short() -> None:
    chain = CodecChain.from_config([{"id": "ecsq", "step": 2}, {"id": "zstd", "level": 3}])
    assert chain == CodecChain.from_config(chain.config())
    assert chain != chain_of("ecsq", "zstd")
    assert str(chain) == "ecsq(step=2)+zstd(level=3)"
    assert chain.config() == [
        {"id": "ecsq", "step": 2.0, "rounding": "nearest"},
        {"id": "zstd", "level": 3},
    ]
    assert chain_of("raw32", "lz4").exact
    assert not chain.exact


def test_a_stage_that_pays_is_marked_and_one_that_does_not_is_skipped() -> None:
    zeros = np.zeros((64, 64), np.float32)
    packed = chain_of("raw32", "lz4").encode(zeros, CONTEXT)
    assert packed[0] == 1
    assert len(packed) < 100
    noise = np.random.default_rng(0).integers(0, 2**32, (64, 64), np.uint32).view(np.float32)
    stored = chain_of("raw32", "lz4", "zstd").encode(noise, CONTEXT)
    assert stored == b"\0\0" + noise.tobytes()


def test_the_longest_chain_keeps_the_size_promise() -> None:
    noise = np.random.default_rng(0).integers(0, 2**31, (9, 9), np.uint32).view(np.float32)
    chain = chain_of("raw32", *["lz4", "zstd"] * 4)
    data = chain.encode(noise, CONTEXT)
    assert len(data) == noise.nbytes + 8
    decoded = chain.decode(data, TensorSpec(shape=(9, 9)), CONTEXT)
    assert decoded.tobytes() == noise.tobytes()


def test_a_leading_byte_that_no_encoder_writes_is_refused() -> None:
    with pytest.raises(DecodeError) as caught:
        chain_of("raw32", "lz4").decode(b"\x02abc", TensorSpec(shape=(1, 1)), CONTEXT)
    assert str(caught.value) == (
        "stage 'lz4': expected leading byte 0 (stored) or 1 (compressed), got 2"
    )


def test_a_stage_decompresses_no_more_than_an_encoder_can_have_written() -> None:
    chain = chain_of("raw32", "zstd")
    bomb = chain.encode(np.zeros((512, 512), np.float32), CONTEXT)
    with pytest.raises(DecodeError, match="at most 80 bytes"):
        chain.decode(bomb, TensorSpec(shape=(4, 4)), CONTEXT)
