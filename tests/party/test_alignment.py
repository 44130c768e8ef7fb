import hashlib
import random
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slstream.errors import DataError, RemoteProtocolError
from slstream.party.alignment import (
    Alignment,
    align,
    id_digests,
    intersect,
    match_bitmap,
    parse_bitmap,
    parse_digests,
    require_matches,
    sort_digests,
)

KEY = b"0123456789abcdef"


def align_all(
    parties: list[list[str]], *, seed: int = 1, validation: float = 0.25, key: bytes = KEY
) -> list[Alignment]:
    """What a session's opening does, with the bytes that would cross."""
    own = [sort_digests(id_digests(ids, key)) for ids in parties]
    received = [
        parse_digests(digests.to_bytes(), rows=len(ids), party="bob")
        for digests, ids in zip(own, parties, strict=True)
    ]
    matched = intersect(received)
    masks = [
        parse_bitmap(match_bitmap(digests, matched), rows=len(ids), party="alice")
        for digests, ids in zip(received, parties, strict=True)
    ]
    return [
        align(ids, digests, mask, seed=seed, validation=validation)
        for ids, digests, mask in zip(parties, own, masks, strict=True)
    ]


def session_ids(parties: list[list[str]], alignments: list[Alignment]) -> list[list[str]]:
    return [
        [ids[row] for row in alignment.rows]
        for ids, alignment in zip(parties, alignments, strict=True)
    ]


def numbered(n: int) -> list[str]:
    return [f"id-{i}" for i in range(n)]


# One alphabet of few ids makes overlaps likely; the other is any text, lone surrogates excluded.
any_ids = st.one_of(
    st.lists(st.integers(0, 40).map(str), unique=True),
    st.lists(st.text(st.characters(exclude_categories=["Cs"])), unique=True, max_size=20),
)


@given(
    parties=st.lists(any_ids, min_size=1, max_size=4),
    shared=any_ids,
    seed=st.integers(0, 2**63 - 1),
    validation=st.sampled_from([0.0, 0.2, 0.5]),
    order=st.randoms(use_true_random=False),
)
def test_parties_agree_on_rows_and_order(
    parties: list[list[str]], shared: list[str], seed: int, validation: float, order: random.Random
) -> None:
    parties = [list({*ids, *shared, "x", "y", "z", "w"}) for ids in parties]
    for ids in parties:
        order.shuffle(ids)
    common = set.intersection(*map(set, parties))
    alignments = align_all(parties, seed=seed, validation=validation)
    sequences = session_ids(parties, alignments)
    assert set(sequences[0]) == common
    assert len(sequences[0]) == len(common)
    assert all(sequence == sequences[0] for sequence in sequences)
    assert len({(a.digest, a.train_rows, a.validation_rows) for a in alignments}) == 1
    assert alignments[0].validation_rows == (
        0 if validation == 0 else max(1, int(len(common) * validation + 0.5))
    )


def test_the_order_follows_from_ids_and_seed_alone() -> None:
    # Neither the order of a file nor the key, which may differ from run to run, shifts it.
    ids, backwards = numbered(20), numbered(20)[::-1]
    (first,) = session_ids([ids], align_all([ids], seed=5))
    (second,) = session_ids([backwards], align_all([backwards], seed=5, key=b"f" * 16))
    (other_seed,) = session_ids([ids], align_all([ids], seed=6))
    assert first == second
    assert first != other_seed
    assert first != sorted(first)


def test_the_order_is_fixed() -> None:
    # Parties with different releases must derive the same order.
    ids = numbered(6)
    (alignment,) = align_all([ids], seed=5)
    assert session_ids([ids], [alignment]) == [["id-3", "id-4", "id-0", "id-5", "id-1", "id-2"]]
    assert alignment.train_rows == 4
    assert alignment.digest == "e1049ca5e61cb3bb1f959994de362f99766cd83f2f3700e6c1022c621bafd61f"


def test_every_seed_has_its_own_split() -> None:
    ids = numbered(40)
    splits = set()
    for seed in range(5):
        (alignment,) = align_all([ids], seed=seed)
        splits.add(frozenset(alignment.rows[: alignment.train_rows].tolist()))
    assert len(splits) == 5


def test_digests_are_keyed_blake2b() -> None:
    expected = hashlib.blake2b("a€".encode(), digest_size=10, key=KEY, person=b"slstream ids")
    assert id_digests(["a€"], KEY).tobytes() == expected.digest()
    assert id_digests([], KEY).shape == (0, 10)


def test_ids_are_compared_as_text() -> None:
    alignments = align_all([["7", "a", "b", "c"], ["007", "a", "b", "c"]])
    assert len(alignments[0].rows) == 3


def test_digests_sort_as_bytes() -> None:
    # Both words matter, and the highest bit is no sign.
    blobs = [bytes(10), b"\x00" * 9 + b"\x01", b"\x00" * 7 + b"\x01" + bytes(2), b"\xff" * 10]
    digests = np.frombuffer(b"".join(reversed(blobs)), dtype=np.uint8).reshape(-1, 10)
    ordered = sort_digests(digests)
    assert ordered.to_bytes() == b"".join(blobs)
    assert ordered.rows.tolist() == [3, 2, 1, 0]


def test_duplicate_ids_are_refused() -> None:
    with pytest.raises(DataError, match=r"^expected unique ids, found an id more than once$"):
        sort_digests(id_digests(["a", "b", "a"], KEY))


def test_digests_of_a_peer_are_checked() -> None:
    good = sort_digests(id_digests(numbered(9), KEY)).to_bytes()
    assert len(parse_digests(good, rows=9, party="bob")) == 9
    for data, rows, message in (
        (good[:-1], 9, "id digests of bob: expected 90 bytes for 9 rows, found 89"),
        (good, 8, "id digests of bob: expected 80 bytes for 8 rows, found 90"),
        (good[10:20] + good[:10], 2, "id digests of bob: expected them sorted and unique, found"),
        (good[:10] * 2, 2, "id digests of bob: expected them sorted and unique, found them other"),
    ):
        with pytest.raises(RemoteProtocolError) as caught:
            parse_digests(data, rows=rows, party="bob")
        assert str(caught.value).startswith(message)


def test_bitmaps_of_a_peer_are_checked() -> None:
    assert parse_bitmap(b"\xa0\x80", rows=9, party="alice").tolist() == [
        *(True, False, True, False, False, False, False, False),
        True,
    ]
    assert parse_bitmap(b"", rows=0, party="alice").tolist() == []
    for data, message in (
        (b"\xa0", "match bitmap of alice: expected 2 bytes for 9 rows, found 1"),
        (b"\xa0\x80\x00", "match bitmap of alice: expected 2 bytes for 9 rows, found 3"),
        (b"\xa0\x81", "match bitmap of alice: expected zero bits after the last row"),
    ):
        with pytest.raises(RemoteProtocolError) as caught:
            parse_bitmap(data, rows=9, party="alice")
        assert str(caught.value) == message


@given(st.binary(max_size=64), st.integers(0, 4))
def test_any_bytes_of_a_peer_end_in_a_documented_error(data: bytes, rows: int) -> None:
    for parse in (parse_digests, parse_bitmap):
        try:
            result = parse(data, rows=rows, party="bob")
        except RemoteProtocolError:
            continue
        assert len(result) == rows


def test_too_few_matches() -> None:
    require_matches(32, party_rows={"alice": 40}, min_rows=32)
    with pytest.raises(DataError) as caught:
        require_matches(3, party_rows={"bob": 5, "alice": 40}, min_rows=32)
    assert str(caught.value) == (
        "expected at least 32 rows that all parties have (alignment.min_rows), found 3: alice has "
        "40, bob has 5; check that the id columns hold the same ids, written alike, and that all "
        "parties use the same key file"
    )


@pytest.mark.parametrize("n", [0, 1, 2])
def test_too_few_rows_to_train(n: int) -> None:
    with pytest.raises(DataError) as caught:
        align_all([numbered(n)], validation=0.25)
    assert str(caught.value) == (
        f"expected at least 2 training rows, found {max(n - 1, 0)}: {n} rows are matched and 1 "
        "of them kept for validation (training.validation)"
    )


def test_a_million_ids_take_seconds() -> None:
    ids = numbered(300_000)
    start = time.perf_counter()
    own, other = (sort_digests(id_digests(half, KEY)) for half in (ids[:-9], ids[9:]))
    mask = parse_bitmap(
        match_bitmap(own.digests, intersect([own.digests, other.digests])),
        rows=len(own.rows),
        party="bob",
    )
    assert len(align(ids[:-9], own, mask, seed=1, validation=0.2).rows) == 300_000 - 18
    assert time.perf_counter() - start < 10  # about 1.3 s
