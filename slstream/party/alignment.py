"""Which rows the parties have in common, and in which order they are used.

1. Every party digests its ids with a key that all parties share (BLAKE2b-80), and the feature
   parties send theirs, sorted, so that nothing of the order of a file shows.
2. The label party intersects the lists and answers each party with one bit per digest it sent.
3. Every party puts its matched rows into the same order, which depends on nothing but the ids and
   the session's seed, and takes the first part for training.

Raw ids never cross. What does: the label party learns which of its own ids another party has, how
many rows that party holds, and, as it knows the key, it could test guessed ids; every party learns
which of its own rows are matched. Whoever does not know the key learns numbers of rows only; a key
file keeps the key from the broker.

No I/O, and the functions that take foreign bytes raise documented errors only.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from slstream.errors import DataError, RemoteProtocolError
from slstream.seeds import derive_seed, permutation

DIGEST_BYTES = 10
"""Two of 2**24 (16 million) different ids collide with a probability of 2**-33; the digests are
most of what a short session sends besides tensors."""

DigestArray = npt.NDArray[np.uint8]
"""uint8 [n, 10], C-contiguous."""
RowArray = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SortedDigests:
    """A party's ids as digests."""

    digests: DigestArray
    """uint8 [n, 10], strictly ascending as byte strings."""
    rows: RowArray
    """int64 [n]: the row of the party's table that each digest stands for."""

    def to_bytes(self) -> bytes:
        """The digests one after another: what is sent."""
        return self.digests.tobytes()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Alignment:
    """The session's rows of one party; all but ``rows`` is the same at every party."""

    rows: RowArray
    """int64 [matched]: rows of the party's own table, in session order; training rows first."""
    train_rows: int
    digest: str
    """SHA-256, hex, of the matched digests in session order."""

    @property
    def validation_rows(self) -> int:
        """Number of rows kept for validation."""
        return len(self.rows) - self.train_rows


def id_digests(ids: Sequence[str], key: bytes) -> DigestArray:
    """Keyed BLAKE2b-80 of each id's UTF-8 bytes.

    Args:
        ids: any text.
        key: 16 to 64 bytes.

    Returns:
        uint8 [len(ids), 10], in the order of ``ids``.
    """
    keyed = hashlib.blake2b(digest_size=DIGEST_BYTES, key=key, person=b"slstream ids")
    joined = bytearray()
    for text in ids:
        state = keyed.copy()
        state.update(text.encode())
        joined += state.digest()
    return np.frombuffer(joined, dtype=np.uint8).reshape(-1, DIGEST_BYTES)


def sort_digests(digests: DigestArray) -> SortedDigests:
    """Sort a party's own digests.

    Raises:
        DataError: two rows have the same digest, so the same id.
    """
    words = _words(digests)
    order = np.lexsort((words[:, 1], words[:, 0]))
    ordered = SortedDigests(
        digests=np.ascontiguousarray(digests[order]), rows=order.astype(np.int64)
    )
    if not _ascending(words[order]):
        raise DataError("expected unique ids, found an id more than once")
    return ordered


def parse_digests(data: bytes, *, rows: int, party: str) -> DigestArray:
    """Read what :meth:`SortedDigests.to_bytes` of another party wrote.

    Args:
        data: foreign bytes.
        rows: how many digests the party has announced.
        party: who sent them, for messages.

    Raises:
        RemoteProtocolError: another length, or not strictly ascending.
    """
    if len(data) != rows * DIGEST_BYTES:
        raise RemoteProtocolError(
            f"id digests of {party}: expected {rows * DIGEST_BYTES} bytes for {rows} rows, "
            f"found {len(data)}"
        )
    digests = np.frombuffer(data, dtype=np.uint8).reshape(-1, DIGEST_BYTES)
    if not _ascending(_words(digests)):
        raise RemoteProtocolError(
            f"id digests of {party}: expected them sorted and unique, found them otherwise"
        )
    return digests


def intersect(parties: Sequence[DigestArray]) -> DigestArray:
    """Digests that every party has.

    Args:
        parties: at least one array, each strictly ascending.

    Returns:
        uint8 [matched, 10], strictly ascending.
    """
    digests = np.concatenate(parties)
    words = _words(digests)
    order = np.lexsort((words[:, 1], words[:, 0]))
    words = words[order]
    # No party has a digest twice, so as many equal ones in a row as parties means: all have it.
    last = len(parties) - 1
    heads = np.arange(max(len(words) - last, 0))
    common = (words[heads] == words[heads + last]).all(axis=1)
    return np.ascontiguousarray(digests[order[heads[common]]])


def match_bitmap(digests: DigestArray, matched: DigestArray) -> bytes:
    """One bit per digest, the first in the highest bit: whether it is among ``matched``.

    Args:
        digests: strictly ascending.
        matched: a subset of them, strictly ascending.

    Returns:
        ``ceil(len(digests) / 8)`` bytes, padded with zero bits.
    """
    whole = f"V{DIGEST_BYTES}"
    digests, matched = digests.view(whole), matched.view(whole)
    return np.packbits(np.isin(digests, matched)).tobytes()


def parse_bitmap(data: bytes, *, rows: int, party: str) -> Mask:
    """Read what :func:`match_bitmap` of another party wrote.

    Args:
        data: foreign bytes.
        rows: how many digests this party has sent.
        party: who sent the bits, for messages.

    Returns:
        bool [rows].

    Raises:
        RemoteProtocolError: another length, or padding that is not zero.
    """
    expected = (rows + 7) // 8
    if len(data) != expected:
        raise RemoteProtocolError(
            f"match bitmap of {party}: expected {expected} bytes for {rows} rows, found {len(data)}"
        )
    bits = np.unpackbits(np.frombuffer(data, dtype=np.uint8)).astype(np.bool_)
    if bits[rows:].any():
        raise RemoteProtocolError(f"match bitmap of {party}: expected zero bits after the last row")
    return bits[:rows]


def require_matches(matched: int, *, party_rows: Mapping[str, int], min_rows: int) -> None:
    """Refuse an empty or too small intersection.

    Raises:
        DataError: fewer than ``min_rows``; tells what each party holds.
    """
    if matched >= min_rows:
        return
    counts = ", ".join(f"{party} has {rows}" for party, rows in sorted(party_rows.items()))
    raise DataError(
        f"expected at least {min_rows} rows that all parties have (alignment.min_rows), found "
        f"{matched}: {counts}; check that the id columns hold the same ids, written alike, and "
        "that all parties use the same key file"
    )


def align(
    ids: Sequence[str], own: SortedDigests, mask: Mask, *, seed: int, validation: float
) -> Alignment:
    """Put the matched rows into the order of the session and split them.

    The order follows from ids and seed alone, not from the key, which may differ from run to run:
    the matched ids are digested once more, under the seed, sorted and permuted.

    Args:
        ids: of the party's own table.
        own: its digests.
        mask: bool [len(own.rows)]: which of them are matched.
        seed: the session's seed.
        validation: part of the rows to keep for validation, 0 <= validation < 1.

    Returns:
        The same order, split and digest at every party.

    Raises:
        DataError: fewer than 2 training rows would be left.
    """
    rows, digests = own.rows[mask], own.digests[mask]
    order_key = derive_seed(seed, "row order key").to_bytes(8, "little")
    canonical = sort_digests(id_digests([ids[row] for row in rows], order_key)).rows
    order = canonical[permutation(len(rows), derive_seed(seed, "row order"))]
    validation_rows = int(len(rows) * validation + 0.5)
    if validation > 0:
        validation_rows = max(validation_rows, 1)
    train_rows = len(rows) - validation_rows
    if train_rows < 2:
        raise DataError(
            f"expected at least 2 training rows, found {max(train_rows, 0)}: {len(rows)} rows are "
            f"matched and {validation_rows} of them kept for validation (training.validation)"
        )
    return Alignment(
        rows=rows[order],
        train_rows=train_rows,
        digest=hashlib.sha256(np.ascontiguousarray(digests[order]).tobytes()).hexdigest(),
    )


def _words(digests: DigestArray) -> npt.NDArray[np.uint64]:
    """Each digest as two numbers that sort as its bytes do: uint64 [n, 2]."""
    padded = np.zeros((len(digests), 16), dtype=np.uint8)
    padded[:, :DIGEST_BYTES] = digests
    return padded.view(">u8").astype(np.uint64)


def _ascending(words: npt.NDArray[np.uint64]) -> bool:
    high, low = words[:, 0], words[:, 1]
    above = (high[1:] > high[:-1]) | ((high[1:] == high[:-1]) & (low[1:] > low[:-1]))
    return bool(above.all())
