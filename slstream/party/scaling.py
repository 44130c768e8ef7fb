"""From a table to the session's rows: put in order, filled and scaled."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from slstream.errors import TableError
from slstream.party.tables import FloatArray, LabelArray, PartyTable
from slstream.topology import DataSource


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PreparedTable:
    """The rows that all parties have in common, in the order of the session."""

    features: FloatArray
    """float32 [rows, columns], finite, C-contiguous."""
    labels: LabelArray | None
    """[rows], or ``None`` for a feature party."""


def prepare(
    table: PartyTable, data: DataSource, *, rows: npt.NDArray[np.int64], train_rows: int
) -> PreparedTable:
    """Take the session's rows of a table, fill missing values and scale.

    Means and deviations are those of this party's training rows, computed in float64, so that
    nothing of the validation rows reaches the model. A column that is constant there becomes 0.

    Args:
        table: the party's table.
        data: how to scale and fill.
        rows: row indices into the table, in session order.
        train_rows: how many of them, from the first, are for training.

    Raises:
        TableError: a column without any value in the training rows cannot be filled.
    """
    values = table.features[rows].astype(np.float64)
    train = values[:train_rows]
    missing = np.isnan(values)
    if missing.any():
        present = ~missing[:train_rows]
        counts = present.sum(axis=0)
        empty = np.flatnonzero(counts == 0)
        if len(empty):
            raise TableError(
                f"column {table.columns[int(empty[0])]!r}: expected a value in at least one of the "
                f"{train_rows} training rows to fill the others with, found none; leave it out"
            )
        means = np.where(present, train, 0.0).sum(axis=0) / counts
        values = np.where(missing, means, values)
        train = values[:train_rows]
    if data.scale == "standard" and values.shape[1]:
        # Sums of equal float32 numbers are exact in float64, so a constant column has exactly 0.
        deviation = train.std(axis=0)
        varies = deviation > 0
        centred = values - train.mean(axis=0)
        values = np.where(varies, centred / np.where(varies, deviation, 1.0), 0.0)
    return PreparedTable(
        features=np.ascontiguousarray(values, dtype=np.float32),
        labels=None if table.labels is None else table.labels[rows],
    )
