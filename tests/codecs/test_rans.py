from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slstream.codecs import rans
from slstream.errors import DecodeError

CONTEXTS = 5


def sample(size: int, seed: int) -> tuple[rans.ByteArray, rans.ByteArray]:
    """Symbols whose spread depends on their context."""
    rng = np.random.default_rng(seed)
    contexts = rng.integers(0, CONTEXTS, size, np.uint8)
    spread = 10.0 ** (contexts - 2.0)
    return np.minimum(rng.exponential(spread), 255).astype(np.uint8), contexts


def decode(data: bytes, contexts: rans.ByteArray, spans: list[int]) -> list[rans.ByteArray]:
    decoder = rans.Decoder(np.frombuffer(data, np.uint8), CONTEXTS, contexts.size)
    edges = np.cumsum([0, *spans])
    out = [decoder.decode(contexts[a:b]) for a, b in pairwise(edges)]
    assert decoder.finish() <= len(data)
    return out


def entropy_bits(symbols: rans.ByteArray, contexts: rans.ByteArray) -> float:
    """Empirical entropy of the symbols given their contexts, of all symbols together."""
    total = 0.0
    for c in np.unique(contexts):
        counts = np.unique(symbols[contexts == c], return_counts=True)[1]
        total -= float((counts * np.log2(counts / counts.sum())).sum())
    return total


@settings(max_examples=60, deadline=None)
@given(
    spans=st.lists(st.integers(0, 300), max_size=4),
    seed=st.integers(0, 1000),
    top=st.sampled_from([0, 1, 3, 255]),
)
def test_symbols_round_trip_in_spans(spans: list[int], seed: int, top: int) -> None:
    symbols, contexts = sample(sum(spans), seed)
    symbols = np.minimum(symbols, top).astype(np.uint8)
    data = rans.encode(symbols, contexts, spans, CONTEXTS)
    back = decode(data, contexts, spans)
    assert np.array_equal(np.concatenate([*back, symbols[:0]]), symbols)


def test_the_rate_is_near_the_entropy_of_each_context() -> None:
    symbols, contexts = sample(1 << 16, seed=1)
    bits = 8 * len(rans.encode(symbols, contexts, [symbols.size], CONTEXTS))
    assert entropy_bits(symbols, contexts) < bits < 1.01 * entropy_bits(symbols, contexts) + 3000


def test_certain_symbols_cost_nothing() -> None:
    symbols = np.zeros(1 << 16, np.uint8)
    data = rans.encode(symbols, symbols, [symbols.size], CONTEXTS)
    assert len(data) <= 40


def test_frequencies_sum_to_the_total_whatever_the_counts() -> None:
    rng = np.random.default_rng(0)
    for scale in (0.01, 1, 1e6):
        counts = rng.exponential(scale, (CONTEXTS, 256)).astype(np.int32)
        counts[0] = 1
        counts[1, 1:] = 1
        counts[1, 0] = 2_000_000_000
        counts[2] = 0
        counts[3, ::2] = 0
        frequencies = counts.copy()
        rans.normalise(frequencies)
        used = counts.sum(axis=1) > 0
        assert np.array_equal(frequencies.sum(axis=1), used * rans.TOTAL)
        assert np.array_equal(frequencies > 0, counts > 0)

        written = np.zeros(CONTEXTS * 1024, np.uint8)
        size = rans.write_tables(frequencies, written)
        again = np.zeros_like(frequencies)
        assert rans.read_tables(written[:size], again) == size
        assert np.array_equal(again, frequencies)
        assert rans.read_tables(written[: size - 1], np.zeros_like(frequencies)) == -1


def test_counts_are_exact_for_every_remainder() -> None:
    for size in range(9):
        symbols, contexts = sample(size, seed=size)
        counts = np.zeros((CONTEXTS, 256), np.int32)
        places = np.empty(size, np.uint16)
        rans.place_symbols(symbols, contexts, places)
        rans.count_symbols(places, counts)
        expected = np.zeros_like(counts)
        np.add.at(expected, (contexts, symbols), 1)
        assert np.array_equal(counts, expected)


@pytest.mark.parametrize("cut", [1, 2, 20])
def test_missing_words_are_noticed(cut: int) -> None:
    symbols, contexts = sample(4096, seed=2)
    data = rans.encode(symbols, contexts, [symbols.size], CONTEXTS)
    with pytest.raises(DecodeError, match="the coder's words do not decode"):
        decode(data[:-cut], contexts, [symbols.size])


def test_a_flipped_word_is_noticed() -> None:
    symbols, contexts = sample(4096, seed=2)
    data = bytearray(rans.encode(symbols, contexts, [symbols.size], CONTEXTS))
    for at in (len(data) // 2, len(data) - 1):
        damaged = data.copy()
        damaged[at] ^= 1
        with pytest.raises(DecodeError):
            decode(bytes(damaged), contexts, [symbols.size])


def test_bytes_without_tables_are_refused() -> None:
    for data in (b"", b"\xff" * 3, b"\xbf" + b"\xff" * 2000):
        with pytest.raises(DecodeError, match="expected frequency tables and 8 coder states"):
            rans.Decoder(np.frombuffer(data, np.uint8), CONTEXTS, 10)


def test_reading_stays_inside_the_words() -> None:
    slots = np.zeros(CONTEXTS * rans.TOTAL, np.uint32)  # every symbol asks for another word
    for size in (0, 3, 1000, 1001):
        contexts = np.zeros(size, np.uint8)
        words = np.zeros(10 + rans.STATES, np.uint16)
        states = np.zeros(rans.STATES, np.uint32)
        position = rans.decode_span(np.empty_like(contexts), contexts, slots, states, words, 0)
        assert position == min(size, 10)


def test_finish_says_where_the_coder_ends() -> None:
    symbols, contexts = sample(1000, seed=3)
    data = rans.encode(symbols, contexts, [1000], CONTEXTS)
    decoder = rans.Decoder(np.frombuffer(data + b"tail", np.uint8), CONTEXTS, 1000)
    decoder.decode(contexts)
    assert decoder.finish() == len(data)
