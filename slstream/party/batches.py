"""Which rows make up each batch: derived alike by every party, so frames carry no row numbers."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from slstream.protocol.schedule import count_slices
from slstream.seeds import derive_seed, permutation

RowArray = npt.NDArray[np.int64]

_EVALUATION_ROWS = 1024
"""Least size of an evaluation batch: nothing is learned from it, so it may be large."""


def train_batches(*, rows: int, batch_size: int, seed: int, epoch: int) -> tuple[RowArray, ...]:
    """The batches of one epoch.

    Args:
        rows: number of training rows, at least 2.
        batch_size: at least 2.
        seed: the session's seed.
        epoch: 0 to 65,535; each has another order.

    Returns:
        int64 arrays that together hold each of ``0 .. rows-1`` once; all have ``batch_size`` rows
        but the last, which may be shorter. A last batch of a single row is left out, because batch
        normalisation cannot be trained on one row.
    """
    order = permutation(rows, derive_seed(seed, "batches", epoch))
    batches = tuple(order[start : start + batch_size] for start in range(0, rows, batch_size))
    return batches[:-1] if batches and len(batches[-1]) == 1 else batches


def slices(batch: RowArray, most: int | None) -> list[RowArray]:
    """A batch in as few slices as keep to ``most`` rows each, as equal as possible, in order.

    ``None``: the batch as it is.
    """
    return np.array_split(batch, count_slices(len(batch), most))


def steps_per_epoch(*, rows: int, batch_size: int) -> int:
    """How many batches :func:`train_batches` returns."""
    full, rest = divmod(rows, batch_size)
    return full + (rest > 1)


def evaluation_batches(*, first: int, rows: int, batch_size: int) -> tuple[RowArray, ...]:
    """Validation batches, in fixed order.

    Args:
        first: number of training rows, after which the validation rows begin.
        rows: number of validation rows; may be 0.
        batch_size: of training; evaluation batches have at least 1,024 rows.

    Returns:
        int64 arrays that together hold each of ``first .. first+rows-1`` once, in order.
    """
    size, end = max(batch_size, _EVALUATION_ROWS), first + rows
    return tuple(
        np.arange(start, min(start + size, end), dtype=np.int64)
        for start in range(first, end, size)
    )
