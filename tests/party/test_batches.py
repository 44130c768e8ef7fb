import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slstream.party.batches import evaluation_batches, steps_per_epoch, train_batches


@given(
    rows=st.integers(2, 500),
    batch_size=st.integers(2, 64),
    seed=st.integers(0, 2**63 - 1),
    epoch=st.integers(0, 65_535),
)
def test_every_row_once_and_no_batch_of_one(
    rows: int, batch_size: int, seed: int, epoch: int
) -> None:
    batches = train_batches(rows=rows, batch_size=batch_size, seed=seed, epoch=epoch)
    together = np.concatenate(batches)
    dropped = rows % batch_size == 1
    assert len(np.unique(together)) == len(together) == rows - dropped
    assert together.dtype == np.int64
    assert set(together.tolist()) <= set(range(rows))
    assert all(len(batch) == batch_size for batch in batches[:-1])
    assert 2 <= len(batches[-1]) <= batch_size
    assert len(batches) == steps_per_epoch(rows=rows, batch_size=batch_size)


def test_batches_are_fixed() -> None:
    # Parties with different releases must derive the same batches.
    batches = train_batches(rows=7, batch_size=3, seed=1, epoch=2)
    assert [batch.tolist() for batch in batches] == [[0, 4, 3], [2, 1, 5]]


def test_epochs_and_seeds_have_their_own_order() -> None:
    orders = {
        tuple(np.concatenate(train_batches(rows=50, batch_size=50, seed=seed, epoch=epoch)))
        for seed in range(3)
        for epoch in range(3)
    }
    assert len(orders) == 9


@pytest.mark.parametrize(
    ("rows", "batch_size", "sizes"),
    [(0, 8, []), (1, 8, [1]), (1024, 8, [1024]), (1025, 8, [1024, 1]), (3000, 2000, [2000, 1000])],
)
def test_evaluation_batches_keep_the_order(rows: int, batch_size: int, sizes: list[int]) -> None:
    batches = evaluation_batches(first=5, rows=rows, batch_size=batch_size)
    assert [len(batch) for batch in batches] == sizes
    assert [row for batch in batches for row in batch] == list(range(5, 5 + rows))
