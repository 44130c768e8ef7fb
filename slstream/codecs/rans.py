"""An entropy coder for bytes that fall into a few contexts: interleaved static rANS.

Range asymmetric numeral systems (J. Duda 2013, arXiv:1311.2540), with 32-bit states, 16-bit
renormalisation and several interleaved states as F. Giesen describes it (2014, arXiv:1402.3392);
the division is a multiplication by a reciprocal that is exact in the range of a state. The rate is
within about 1 % of the entropy of each context plus its table; unlike Huffman's it has no floor of
one bit per symbol, and unlike a library's its bytes never change.

A symbol 255 (``ESCAPE``) stands for a value outside the alphabet; what it hides is the caller's.

Decoding cannot leave its buffers whatever the bytes are, takes time proportional to the symbols
asked for, and checks that every word was used and that all states end where the encoder began.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from slstream.codecs.kernel import Scalar, kernel
from slstream.errors import DecodeError

ByteArray = npt.NDArray[np.uint8]
WordArray = npt.NDArray[np.uint16]
TableArray = npt.NDArray[np.uint32]
CountArray = npt.NDArray[np.int32]

PROBABILITY_BITS = 10
"""Frequencies of a context sum to ``2**PROBABILITY_BITS``; its decode table has as many slots."""

TOTAL = 1 << PROBABILITY_BITS
SYMBOLS = 256
ESCAPE = 255

STATES = 8
"""Interleaved states: enough to hide the latency of one behind the others."""

_LOW = 1 << 16
"""States lie in [_LOW, 2**32) between symbols; the encoder starts from _LOW."""


def encode(symbols: ByteArray, contexts: ByteArray, spans: Sequence[int], total: int) -> bytes:
    """Encode symbols.

    Args:
        symbols: uint8 [n].
        contexts: uint8 [n], the context of each, less than ``total``.
        spans: sizes of the parts in which they will be decoded; they sum to n.
        total: number of contexts.

    Returns:
        Tables, states (u32 little-endian) and words (u16 little-endian).
    """
    tables = total * 4 * SYMBOLS
    out = np.empty(tables + 4 * STATES + 2 * symbols.size, np.uint8)
    size = encode_all(symbols, contexts, np.array(spans, np.int64), total, out)
    return out[:size].tobytes()


class Decoder:
    """Reads what :func:`encode` wrote, span by span; the bytes are foreign.

    Args:
        data: tables, states, words, and whatever follows.
        total: number of contexts.
        symbols: how many symbols will be decoded in all.

    Raises:
        DecodeError: no tables or states.
    """

    def __init__(self, data: ByteArray, total: int, symbols: int) -> None:
        self._slots = np.zeros(total * TOTAL, np.uint32)
        self._states = np.empty(STATES, np.uint32)
        # No symbol takes more than one word: a foreign length never decides how much is kept.
        self._words = np.zeros(min(data.size // 2, symbols) + STATES + 1, np.uint16)
        self._start, self._real, self.has_escapes = open_all(
            data, total, symbols, self._slots, self._states, self._words
        )
        """Where the words begin; how many there are; whether any context has a frequency for
        ESCAPE: without, no symbol can be one."""
        if self._start < 0:
            raise DecodeError(
                f"expected frequency tables and {STATES} coder states; "
                f"the {data.size} bytes do not hold them"
            )
        self._position = 0

    def decode(self, contexts: ByteArray) -> ByteArray:
        """The next ``contexts.size`` symbols: uint8 [n]."""
        symbols = np.empty(contexts.size, np.uint8)
        self._position = decode_span(
            symbols, contexts, self._slots, self._states, self._words, self._position
        )
        return symbols

    def finish(self) -> int:
        """Check that all symbols were what an encoder wrote.

        Returns:
            The number of bytes of ``data`` that belong to the coder.

        Raises:
            DecodeError: too few words, or states that no encoder starts from.
        """
        if self._position > self._real or self._states.tolist() != STATES * [_LOW]:
            raise DecodeError(
                f"the coder's words do not decode: used {self._position} of {self._real}, "
                f"final states {self._states.tolist()}, expected {_LOW} each"
            )
        return int(self._start + 2 * self._position)


@kernel("void(const u1[::1], const u1[::1], u2[::1])")
def place_symbols(symbols: ByteArray, contexts: ByteArray, places: WordArray) -> None:
    """Where each symbol is in a table of all contexts: ``context * SYMBOLS + symbol``."""
    for i in range(symbols.size):
        places[i] = np.uint16(np.uint16(contexts[i]) << np.uint16(8)) | np.uint16(symbols[i])


@kernel("void(const u2[::1], i4[:,::1])")
def count_symbols(places: WordArray, counts: CountArray) -> None:
    """Add up how often each symbol occurs in each context: int32 [contexts, SYMBOLS]."""
    # Runs of one symbol would wait for their own last store: four tables take turns.
    turns = np.zeros((4, counts.size), np.int32)
    quarters = places.size // 4
    for i in range(np.uint64(quarters)):
        for t in range(np.uint64(4)):
            turns[t, places[np.uint64(4) * i + t]] += 1
    flat = counts.reshape(counts.size)
    for i in range(4 * quarters, places.size):
        flat[places[i]] += 1
    flat += turns.sum(axis=0)


@kernel("void(i4[:,::1])")
def normalise(counts: CountArray) -> None:
    """Turn counts into frequencies in place: each row that has any sums to ``TOTAL``.

    A symbol that occurs keeps at least 1; what rounding leaves over is taken from, or given to,
    the most frequent ones.
    """
    for c in range(counts.shape[0]):
        row = counts[c]
        occurrences = np.int64(0)
        for s in range(SYMBOLS):
            occurrences += row[s]
        if occurrences == 0:
            continue
        spare = np.int64(TOTAL)
        for s in range(SYMBOLS):
            if row[s] > 0:
                scaled = (np.int64(row[s]) * TOTAL + occurrences // 2) // occurrences
                row[s] = max(scaled, 1)
                spare -= row[s]
        while spare != 0:
            top = np.argmax(row)
            step = max(spare, -np.int64((row[top] + 1) // 2)) if spare < 0 else spare
            row[top] += step
            spare -= step


@kernel("i8(u1[::1], i8, i8, i8)")
def _put_bits(out: ByteArray, position: Scalar, value: Scalar, width: Scalar) -> Scalar:
    for b in range(width):
        if (value >> (width - 1 - b)) & 1:
            out[(position + b) >> 3] |= np.uint8(0x80 >> ((position + b) & 7))
    return position + width


@kernel("i8(const u1[::1], i8, i8)")
def _get_bits(data: ByteArray, position: Scalar, width: Scalar) -> Scalar:
    value = 0
    for b in range(width):
        at = position + b
        bit = 0
        if at >> 3 < data.size:
            bit = (data[at >> 3] >> (7 - (at & 7))) & 1
        value = value << 1 | bit
    return value


@kernel("i8(i8)")
def _bit_length(value: Scalar) -> Scalar:
    width = 0
    while value > 0:
        value >>= 1
        width += 1
    return width


@kernel("i8(i4[:,::1], u1[::1])")
def write_tables(frequencies: CountArray, out: ByteArray) -> Scalar:
    """Write the frequencies of all contexts as bits, most significant first.

    Per context: 1 bit, whether it occurs. If it does: 1 bit, whether ESCAPE does, and then its
    frequency - 1 in ``PROBABILITY_BITS`` bits. Then the frequencies of symbols 0, 1, ..., each in
    as many bits as what remains of TOTAL needs, until nothing remains; a 0 is followed by the
    number of zeros in a row in Elias gamma code.

    Args:
        frequencies: int32 [contexts, SYMBOLS].
        out: zeros, at least ``4 * SYMBOLS`` bytes a context.

    Returns:
        The number of bytes written.
    """
    position = 0
    for c in range(frequencies.shape[0]):
        row = frequencies[c]
        remaining = TOTAL
        used = np.max(row) > 0
        position = _put_bits(out, position, 1 if used else 0, 1)
        if not used:
            continue
        position = _put_bits(out, position, 1 if row[ESCAPE] > 0 else 0, 1)
        if row[ESCAPE] > 0:
            position = _put_bits(out, position, row[ESCAPE] - 1, PROBABILITY_BITS)
            remaining -= row[ESCAPE]
        s = 0
        while remaining > 0:
            position = _put_bits(out, position, row[s], _bit_length(remaining))
            remaining -= row[s]
            if row[s] > 0:
                s += 1
                continue
            run = 1
            while row[s + run] == 0:
                run += 1
            width = _bit_length(run)
            position = _put_bits(out, position, run, 2 * width - 1)
            s += run
    return (position + 7) >> 3


@kernel("i8(const u1[::1], i4[:,::1])")
def read_tables(data: ByteArray, frequencies: CountArray) -> Scalar:
    """Read what :func:`write_tables` wrote into zeroed ``frequencies``.

    Returns:
        The number of bytes read, or -1 when the bytes are not tables.
    """
    position = 0
    for c in range(frequencies.shape[0]):
        row = frequencies[c]
        remaining = TOTAL
        used = _get_bits(data, position, 1)
        position += 1
        if used == 0:
            continue
        escape = _get_bits(data, position, 1)
        position += 1
        if escape == 1:
            row[ESCAPE] = _get_bits(data, position, PROBABILITY_BITS) + 1
            position += PROBABILITY_BITS
            remaining -= row[ESCAPE]
        s = 0
        while remaining > 0:
            width = _bit_length(remaining)
            frequency = _get_bits(data, position, width)
            position += width
            if frequency > remaining or s >= ESCAPE:
                return -1
            if frequency > 0:
                row[s] = frequency
                remaining -= frequency
                s += 1
                continue
            width = 1
            while _get_bits(data, position, 1) == 0:
                width += 1
                position += 1
                if width > 8:
                    return -1
            s += _get_bits(data, position, width)
            position += width
    size = (position + 7) >> 3
    return size if size <= data.size else -1


@kernel("void(i4[:,::1], u8[::1], u4[::1])")
def encode_tables(
    frequencies: CountArray, reciprocals: npt.NDArray[np.uint64], intervals: TableArray
) -> None:
    """Per (context, symbol): ``ceil(2**(32 + bits) / f)`` and ``cumulated << 16 | TOTAL - f``.

    For a state ``x < f << (32 - bits)`` the product with the reciprocal stays below 2**64 and its
    upper bits are exactly ``x // f``, because ``f * f <= 2**(2 * bits)``.
    """
    for c in range(frequencies.shape[0]):
        start = 0
        for s in range(SYMBOLS):
            f = np.uint64(frequencies[c, s])
            if f > 0:
                at = c * SYMBOLS + s
                one = np.uint64(1) << np.uint64(32 + PROBABILITY_BITS)
                reciprocals[at] = (one + f - np.uint64(1)) // f
                intervals[at] = np.uint32(start << 16 | (TOTAL - frequencies[c, s]))
                start += frequencies[c, s]


@kernel("void(i4[:,::1], u4[::1])")
def decode_tables(frequencies: CountArray, slots: TableArray) -> None:
    """Per (context, slot): ``symbol << 21 | frequency << 10 | offset in the symbol's interval``."""
    for c in range(frequencies.shape[0]):
        at = c * TOTAL
        for s in range(SYMBOLS):
            f = frequencies[c, s]
            entry = np.uint32(s << 21 | f << 10)
            for offset in range(f):
                slots[at + offset] = entry | np.uint32(offset)
            at += f


@kernel("UniTuple(u8, 2)(u8, u8, u4, u2[::1], u8)")
def _push(
    state: Scalar, reciprocal: Scalar, interval: Scalar, words: WordArray, position: Scalar
) -> tuple[Scalar, Scalar]:
    """Encode one symbol: the new state, and where the next word (written downwards) goes."""
    complement = np.uint64(interval & np.uint32(0xFFFF))
    limit = (np.uint64(TOTAL) - complement) << np.uint64(32 - PROBABILITY_BITS)
    # Storing always and moving sometimes avoids a branch that nobody can predict.
    words[position] = np.uint16(state)
    full = np.uint64(state >= limit)
    position -= full
    state >>= full << np.uint64(4)
    quotient = np.uint64(state * reciprocal) >> np.uint64(32 + PROBABILITY_BITS)
    return state + np.uint64(interval >> np.uint32(16)) + quotient * complement, position


@kernel("u8(const u2[::1], const u8[::1], const u4[::1], u8[::1], u2[::1], u8)")
def encode_span(
    places: WordArray,
    reciprocals: npt.NDArray[np.uint64],
    intervals: TableArray,
    states: npt.NDArray[np.uint64],
    words: WordArray,
    position: Scalar,
) -> Scalar:
    """Encode symbols from the last to the first; spans too go in reverse order of decoding.

    Args:
        places: uint16 [n], from :func:`place_symbols`.
        reciprocals: from :func:`encode_tables`.
        intervals: from :func:`encode_tables`.
        states: STATES states, updated.
        words: filled downwards from ``position``; one more than the symbols of all spans suffices.
        position: where the next word goes.

    Returns:
        The new position: words lie above it.
    """
    n = places.size
    whole = n - n % STATES
    at: Scalar
    for i in range(n - 1, whole - 1, -1):
        at = places[i]
        states[i - whole], position = _push(
            states[i - whole], reciprocals[at], intervals[at], words, position
        )
    s0, s1, s2, s3 = states[0], states[1], states[2], states[3]
    s4, s5, s6, s7 = states[4], states[5], states[6], states[7]
    # Unsigned indices spare the check for negative ones that numba adds to every access.
    k: Scalar = np.uint64(whole)
    while k > 0:
        k -= np.uint64(STATES)
        at = places[k + np.uint64(7)]
        s7, position = _push(s7, reciprocals[at], intervals[at], words, position)
        at = places[k + np.uint64(6)]
        s6, position = _push(s6, reciprocals[at], intervals[at], words, position)
        at = places[k + np.uint64(5)]
        s5, position = _push(s5, reciprocals[at], intervals[at], words, position)
        at = places[k + np.uint64(4)]
        s4, position = _push(s4, reciprocals[at], intervals[at], words, position)
        at = places[k + np.uint64(3)]
        s3, position = _push(s3, reciprocals[at], intervals[at], words, position)
        at = places[k + np.uint64(2)]
        s2, position = _push(s2, reciprocals[at], intervals[at], words, position)
        at = places[k + np.uint64(1)]
        s1, position = _push(s1, reciprocals[at], intervals[at], words, position)
        at = places[k]
        s0, position = _push(s0, reciprocals[at], intervals[at], words, position)
    states[0], states[1], states[2], states[3] = s0, s1, s2, s3
    states[4], states[5], states[6], states[7] = s4, s5, s6, s7
    return position


@kernel("Tuple((u1, u4, u8))(u4, u1, const u4[::1], const u2[::1], u8)")
def _pop(
    state: Scalar, context: Scalar, slots: TableArray, words: WordArray, position: Scalar
) -> tuple[Scalar, Scalar, Scalar]:
    """Decode one symbol: the symbol, the new state, and where the next word is."""
    slot = state & np.uint32(TOTAL - 1)
    entry = slots[np.uint32(np.uint32(context) << np.uint32(PROBABILITY_BITS)) | slot]
    frequency = np.uint32(np.uint32(entry >> np.uint32(10)) & np.uint32(0x7FF))
    offset = np.uint32(entry & np.uint32(0x3FF))
    state = np.uint32(np.uint32(frequency * (state >> np.uint32(PROBABILITY_BITS))) + offset)
    # A refill is not predictable: shifting by 0 or 16 keeps a branch out of the loop.
    empty = np.uint32(state < np.uint32(_LOW))
    word = np.uint32(words[position]) & np.uint32(np.uint32(0) - empty)
    state = np.uint32(state << np.uint32(empty << np.uint32(4))) | word
    return np.uint8(entry >> np.uint32(21)), state, position + np.uint64(empty)


@kernel("u8(u1[::1], const u1[::1], const u4[::1], u4[::1], const u2[::1], u8)")
def decode_span(
    symbols: ByteArray,
    contexts: ByteArray,
    slots: TableArray,
    states: TableArray,
    words: WordArray,
    position: Scalar,
) -> Scalar:
    """Decode ``symbols.size`` symbols.

    Args:
        symbols: uint8 [n], filled.
        contexts: uint8 [n], the context of each; less than the contexts of ``slots``.
        slots: from :func:`decode_tables`.
        states: STATES states, updated.
        words: the words and then STATES + 1 more of any value: reading stays inside.
        position: the first word to read.

    Returns:
        The new position. It is larger than the number of real words when there were too few.
    """
    n = symbols.size
    whole = n - n % STATES
    end = np.uint64(words.size - STATES)
    s0, s1, s2, s3 = states[0], states[1], states[2], states[3]
    s4, s5, s6, s7 = states[4], states[5], states[6], states[7]
    for i in range(0, whole, STATES):
        symbols[i], s0, position = _pop(s0, contexts[i], slots, words, position)
        symbols[i + 1], s1, position = _pop(s1, contexts[i + 1], slots, words, position)
        symbols[i + 2], s2, position = _pop(s2, contexts[i + 2], slots, words, position)
        symbols[i + 3], s3, position = _pop(s3, contexts[i + 3], slots, words, position)
        symbols[i + 4], s4, position = _pop(s4, contexts[i + 4], slots, words, position)
        symbols[i + 5], s5, position = _pop(s5, contexts[i + 5], slots, words, position)
        symbols[i + 6], s6, position = _pop(s6, contexts[i + 6], slots, words, position)
        symbols[i + 7], s7, position = _pop(s7, contexts[i + 7], slots, words, position)
        position = min(position, end)
    states[0], states[1], states[2], states[3] = s0, s1, s2, s3
    states[4], states[5], states[6], states[7] = s4, s5, s6, s7
    for i in range(whole, n):
        symbols[i], states[i - whole], position = _pop(
            states[i - whole], contexts[i], slots, words, position
        )
        position = min(position, end)
    return position


# Each call of a kernel, and each array that Python makes, costs some microseconds after the model
# was computed, as its code is no longer in the processor's caches: these two do all at once.


@kernel("i8(const u1[::1], const u1[::1], const i8[::1], i8, u1[::1])")
def encode_all(
    symbols: ByteArray,
    contexts: ByteArray,
    spans: npt.NDArray[np.int64],
    total: Scalar,
    out: ByteArray,
) -> Scalar:
    """What :func:`encode` does; returns the number of bytes written.

    Args:
        symbols: uint8 [n].
        contexts: uint8 [n].
        spans: they sum to n.
        total: number of contexts.
        out: ``4 * SYMBOLS`` bytes a context, 4 a state and 2 a symbol.
    """
    counts = np.zeros((total, SYMBOLS), np.int32)
    places = np.empty(symbols.size, np.uint16)
    place_symbols(symbols, contexts, places)
    count_symbols(places, counts)
    normalise(counts)
    out[: total * 4 * SYMBOLS] = 0
    size = write_tables(counts, out)
    reciprocals = np.zeros(total * SYMBOLS, np.uint64)
    intervals = np.zeros(total * SYMBOLS, np.uint32)
    encode_tables(counts, reciprocals, intervals)

    states = np.full(STATES, np.uint64(_LOW), np.uint64)
    words = np.empty(symbols.size + 1, np.uint16)
    position = np.uint64(symbols.size)
    end = symbols.size
    for i in range(spans.size - 1, -1, -1):
        begin = end - spans[i]
        position = encode_span(places[begin:end], reciprocals, intervals, states, words, position)
        end = begin

    for i in range(STATES):
        for b in range(4):
            out[size + b] = np.uint8(states[i] >> np.uint64(8 * b))
        size += 4
    for i in range(np.int64(position) + 1, words.size):
        out[size] = np.uint8(words[i])
        out[size + 1] = np.uint8(words[i] >> 8)
        size += 2
    return size


@kernel("Tuple((i8, i8, b1))(const u1[::1], i8, i8, u4[::1], u4[::1], u2[::1])")
def open_all(
    data: ByteArray,
    total: Scalar,
    symbols: Scalar,
    slots: TableArray,
    states: TableArray,
    words: WordArray,
) -> tuple[Scalar, Scalar, Scalar]:
    """Read what stands before the words, and the words.

    Args:
        data: foreign bytes.
        total: number of contexts.
        symbols: how many will be decoded; no more words are read.
        slots: zeros, ``TOTAL`` a context; filled as :func:`decode_tables` does.
        states: STATES, filled.
        words: zeros, more than half the bytes or the symbols, whichever is less; filled.

    Returns:
        Where the words begin, -1 when there are no tables and states; the number of words; whether
        a context has a frequency for ESCAPE.
    """
    frequencies = np.zeros((total, SYMBOLS), np.int32)
    at = read_tables(data, frequencies)
    if at < 0 or at + 4 * STATES > data.size:
        return -1, 0, False
    decode_tables(frequencies, slots)
    has_escapes = False
    for c in range(total):
        has_escapes |= frequencies[c, ESCAPE] > 0
    for i in range(STATES):
        state = np.uint32(0)
        for b in range(4):
            state |= np.uint32(data[at + b]) << np.uint32(8 * b)
        states[i] = state
        at += 4
    real = min((data.size - at) // 2, symbols)
    for i in range(real):
        words[i] = np.uint16(data[at + 2 * i]) | np.uint16(data[at + 2 * i + 1]) << np.uint16(8)
    return at, real, has_escapes
