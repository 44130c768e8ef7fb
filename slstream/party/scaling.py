"""From raw columns to what the model sees: filled and scaled, the same way for new rows."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from slstream.errors import DataError, TableError
from slstream.party.tables import FloatArray, LabelArray, PartyTable
from slstream.topology import DataSource

FORMAT = 1

_Values = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scaling:
    """What is done to each column; a party keeps it beside its weights, for rows that come later.

    A missing value becomes the fill, then ``x`` becomes ``(x - mean) / deviation``, or 0 in a
    column whose deviation is 0; in float64, rounded to float32 at the end.
    """

    columns: tuple[str, ...]
    fill: _Values
    """[columns]; NaN where nothing was missing when it was made."""
    mean: _Values
    """[columns]."""
    deviation: _Values
    """[columns]; not negative."""

    @classmethod
    def fit(cls, columns: tuple[str, ...], values: FloatArray, train_rows: int, scale: str) -> Self:
        """Derive fill, mean and deviation from the first ``train_rows`` rows.

        So nothing of the validation rows reaches the model.

        Args:
            columns: names.
            values: [rows, columns]; NaN stands for a missing value.
            train_rows: at least 1.
            scale: ``standard`` or ``none``, which leaves the numbers as they are.

        Raises:
            TableError: a column has missing values, and none in the training rows to fill them.
        """
        train, width = values[:train_rows].astype(np.float64), len(columns)
        fill = np.full(width, np.nan)
        if np.isnan(values).any():
            present = ~np.isnan(train)
            counts = present.sum(axis=0)
            empty = np.flatnonzero(counts == 0)
            if len(empty):
                raise TableError(
                    f"column {columns[int(empty[0])]!r}: expected a value in at least one of the "
                    f"{train_rows} training rows to fill the others with, found none; leave it out"
                )
            fill = np.where(present, train, 0.0).sum(axis=0) / counts
            train = np.where(present, train, fill)
        if scale == "none":
            return cls(columns=columns, fill=fill, mean=np.zeros(width), deviation=np.ones(width))
        # Sums of equal float32 numbers are exact in float64, so a constant column has exactly 0.
        return cls(columns=columns, fill=fill, mean=train.mean(axis=0), deviation=train.std(axis=0))

    def apply(self, values: FloatArray) -> FloatArray:
        """Fill and scale rows: float32 [rows, columns] to the same shape, C-contiguous.

        Raises:
            DataError: another number of columns.
        """
        if values.ndim != 2 or values.shape[1] != len(self.columns):
            raise DataError(
                f"expected rows of {len(self.columns)} columns, found shape {list(values.shape)}"
            )
        exact = values.astype(np.float64)
        exact = np.where(np.isnan(exact), self.fill, exact)
        varies = self.deviation > 0
        scaled = np.where(varies, (exact - self.mean) / np.where(varies, self.deviation, 1.0), 0.0)
        return np.ascontiguousarray(scaled, dtype=np.float32)

    def to_json(self) -> str:
        """Indented JSON; numbers in full precision, a fill that there is none of as ``null``."""
        columns = [
            {"name": name, "fill": None if np.isnan(fill) else fill, "mean": mean, "deviation": dev}
            for name, fill, mean, dev in zip(
                self.columns,
                self.fill.tolist(),
                self.mean.tolist(),
                self.deviation.tolist(),
                strict=True,
            )
        ]
        return json.dumps({"format": FORMAT, "columns": columns}, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Parse :meth:`to_json`'s output.

        Raises:
            DataError: not such a document.
        """
        try:
            document = json.loads(text)
            if document["format"] != FORMAT:
                raise DataError(
                    f"scaling: expected format {FORMAT}, found {document['format']!r}; a newer "
                    "release may read it"
                )
            columns = document["columns"]
            fills = [float("nan") if c["fill"] is None else c["fill"] for c in columns]
            return cls(
                columns=tuple(str(c["name"]) for c in columns),
                fill=np.array(fills, dtype=np.float64),
                mean=np.array([c["mean"] for c in columns], dtype=np.float64),
                deviation=np.array([c["deviation"] for c in columns], dtype=np.float64),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"scaling: not such a document: {error}") from error


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PreparedTable:
    """The rows that all parties have in common, in the order of the session."""

    features: FloatArray
    """float32 [rows, columns], finite, C-contiguous."""
    labels: LabelArray | None
    """[rows], or ``None`` for a feature party."""
    scaling: Scaling
    """How the features came to be."""


def prepare(
    table: PartyTable, data: DataSource, *, rows: npt.NDArray[np.int64], train_rows: int
) -> PreparedTable:
    """Take the session's rows of a table, fill missing values and scale.

    Args:
        table: the party's table.
        data: how to scale and fill.
        rows: row indices into the table, in session order.
        train_rows: how many of them, from the first, are for training.

    Raises:
        TableError: a column without any value in the training rows cannot be filled.
    """
    values = table.features[rows]
    scaling = Scaling.fit(table.columns, values, train_rows, data.scale)
    return PreparedTable(
        features=scaling.apply(values),
        labels=None if table.labels is None else table.labels[rows],
        scaling=scaling,
    )
