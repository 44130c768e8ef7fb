"""Every built-in codec keeps the contract."""

from __future__ import annotations

from typing import ClassVar

from slstream.codecs.registry import built_in_ids
from slstream.testing.codec_states import CodecStateContract
from slstream.testing.codecs import BytesCodecContract, CodecContract
from tests.codecs.cases import CASES, STATEFUL


class TestBuiltInCodecs(CodecContract):
    configs = CASES


class TestBuiltInStates(CodecStateContract):
    configs = STATEFUL


class TestBuiltInBytesCodecs(BytesCodecContract):
    configs: ClassVar = {
        "lz4": {"id": "lz4"},
        "lz4-fast": {"id": "lz4", "acceleration": 9},
        "zstd": {"id": "zstd"},
        "zstd-small": {"id": "zstd", "level": 19},
        "zstd_shuffled": {"id": "zstd_shuffled"},
        "zstd_shuffled-4": {"id": "zstd_shuffled", "width": 4},
    }


def test_every_registered_codec_is_covered() -> None:
    covered = {each["id"] for chain in CASES.values() for each in chain}
    assert covered == {*built_in_ids(), "split"}
