"""Old bytes decode for ever, to the same bits, on every machine."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from slstream.codecs.contract import TensorSpec
from slstream.codecs.registry import built_in_ids
from slstream.testing.codec_states import same
from tests.codecs.golden import ROOT, read_golden, read_sequence

SEQUENCES = sorted(path for path in ROOT.glob("*-sequence"))
DIRECTORIES = sorted(path for path in ROOT.iterdir() if path.is_dir() and path not in SEQUENCES)

LIBRARY_BYTES = {"lz4", "zstd", "zstd_shuffled"}
"""Codecs whose bytes may change with the version of their library; decoding may not."""


@pytest.mark.parametrize("directory", DIRECTORIES, ids=lambda path: path.name)
def test_old_bytes_decode_to_the_same_bits(directory: Path) -> None:
    golden = read_golden(directory)
    spec = TensorSpec(shape=golden.tensor.shape)
    decoded = golden.chain.decode(golden.encoded, spec, golden.context)
    assert decoded.dtype == golden.decoded.dtype
    assert decoded.tobytes() == golden.decoded.tobytes()


@pytest.mark.parametrize("directory", DIRECTORIES, ids=lambda path: path.name)
def test_old_tensors_encode_to_the_same_bytes(directory: Path) -> None:
    golden = read_golden(directory)
    if LIBRARY_BYTES & {str(each["id"]) for each in golden.chain.config()}:
        spec = TensorSpec(shape=golden.tensor.shape)
        again = golden.chain.encode(golden.tensor, golden.context)
        assert np.array_equal(golden.chain.decode(again, spec, golden.context), golden.decoded)
    else:
        assert golden.chain.encode(golden.tensor, golden.context) == golden.encoded


@pytest.mark.parametrize("directory", SEQUENCES, ids=lambda path: path.name)
def test_old_sequences_decode_to_the_same_bits_and_state(directory: Path) -> None:
    tensors, state = read_sequence(directory)
    for golden in tensors:
        spec = TensorSpec(shape=golden.tensor.shape)
        if not LIBRARY_BYTES & {str(each["id"]) for each in golden.chain.config()}:
            assert golden.chain.encode(golden.tensor, golden.context) == golden.encoded
        decoded = golden.chain.decode(golden.encoded, spec, golden.context)
        assert decoded.tobytes() == golden.decoded.tobytes()
    with np.load(directory / "state.npz", allow_pickle=False) as kept:
        assert same(state.arrays(), dict(kept))


def test_every_built_in_codec_has_golden_files() -> None:
    documents = [json.loads((path / "config.json").read_text()) for path in DIRECTORIES + SEQUENCES]
    found = {each["id"] for document in documents for each in document["chain"]}
    assert found == {*built_in_ids(), "split"}
