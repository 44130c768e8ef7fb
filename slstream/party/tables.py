"""A party's table: ids, features and labels, read and checked.

Messages of :class:`TableError` name columns, lines and, for ids that stand twice, the ids: they are
for the party's own terminal. Peers are told ``error.reason_for_peers``, which quotes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import numpy as np
import numpy.typing as npt
import polars as pl

from slstream.errors import TableError
from slstream.party.sources import Source, open_source
from slstream.topology import Party, Role, Topology
from slstream.topology.nearest import hint

FloatArray = npt.NDArray[np.float32]
LabelArray = npt.NDArray[np.float32] | npt.NDArray[np.int64]

_SHOWN = 3
"""How many examples an error message shows."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PartyTable:
    """The rows of one party, in the order of its file."""

    ids: tuple[str, ...]
    """Unique, as text."""
    columns: tuple[str, ...]
    """Names of the feature columns."""
    features: FloatArray
    """float32 [rows, columns], finite; NaN stands for a missing value where that is allowed."""
    labels: LabelArray | None
    """[rows]: float32 (0 or 1) for ``bce``, int64 (class) for ``cross_entropy``, float32
    otherwise; ``None`` for a feature party."""

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(self.ids)


def load_table(party: Party, topology: Topology) -> PartyTable:
    """Read and check a party's table.

    Feature columns come in the order of the patterns and, within one, of the file; a pattern never
    takes the id or label column.

    Raises:
        TableError: a missing file or column, no rows, a missing or duplicate id, a cell that is not
            a number, a missing or infinite value, or labels that do not fit the loss.
    """
    source = open_source(party, topology)
    where = topology.where("parties", party.id, "data")
    label = party.data.label if party.role is Role.LABEL else None
    for column in (party.data.id, *((label,) if label is not None else ())):
        _require_column(column, source, where)
    columns = select_columns(
        party.feature_patterns, source, excluded={party.data.id, label}, where=where
    )
    frame = source.read(party.data.id, [*columns, *((label,) if label is not None else ())])
    if frame.is_empty():
        raise TableError(f"{source.name}: expected rows, found only column names")
    return PartyTable(
        ids=_ids(frame[party.data.id], source),
        columns=columns,
        features=_features(frame, columns, source, party.data.missing == "refuse"),
        labels=None if label is None else _labels(frame[label], source, topology.loss),
    )


def select_columns(
    patterns: Iterable[str], source: Source, *, excluded: set[str | None], where: str
) -> tuple[str, ...]:
    """Feature columns by name or glob, each once.

    Args:
        patterns: a name that exists means itself, also with ``*``, ``?`` or ``[`` in it.
        source: the table.
        excluded: columns that a glob skips and that may not be named.
        where: place in the topology, for messages.

    Raises:
        TableError: nothing matches, or an excluded column is named.
    """
    chosen: dict[str, None] = {}
    for pattern in patterns:
        if pattern in excluded:
            raise TableError(
                f"{where}.features: {pattern!r} is the id or label column and cannot be a feature"
            )
        if pattern in source.columns:
            chosen[pattern] = None
            continue
        matched = [c for c in source.columns if c not in excluded and fnmatchcase(c, pattern)]
        if not matched:
            raise _missing_column(pattern, source, f"{where}.features")
        chosen.update(dict.fromkeys(matched))
    return tuple(chosen)


def _require_column(column: str, source: Source, where: str) -> None:
    if column not in source.columns:
        raise _missing_column(column, source, where)


def _missing_column(column: str, source: Source, where: str) -> TableError:
    return TableError(
        f"{where}: {source.name} has no column {column!r}{hint(column, source.columns)}"
    )


def _ids(column: pl.Series, source: Source) -> tuple[str, ...]:
    empty = (column.is_null() | (column == "")).arg_true()
    if len(empty):
        raise TableError(
            f"{source.name}: column {column.name!r}: expected an id in every row, found none at "
            f"{_places(empty, source)}"
        )
    if column.n_unique() != len(column):
        raise TableError(_duplicates(column, source))
    return tuple(column.to_list())


def _duplicates(column: pl.Series, source: Source) -> str:
    repeated = column.filter(column.is_duplicated()).unique(maintain_order=True)
    examples = [
        f"{value!r} at {_places((column == value).arg_true(), source)}"
        for value in repeated.head(_SHOWN)
    ]
    more = f" and {len(repeated) - _SHOWN} more ids" if len(repeated) > _SHOWN else ""
    return (
        f"{source.name}: column {column.name!r}: expected unique ids, found duplicates: "
        f"{'; '.join(examples)}{more}"
    )


def _features(
    frame: pl.DataFrame, columns: Sequence[str], source: Source, refuse_missing: bool
) -> FloatArray:
    if not columns:
        return np.zeros((frame.height, 0), dtype=np.float32)
    values = frame.select(columns).to_numpy()  # float64; null becomes NaN
    if refuse_missing:
        _refuse(
            np.isnan(values),
            columns,
            source,
            "a value in every row, found none",
            'fill them, or set "missing: mean"',
        )
    with np.errstate(over="ignore"):
        features = np.ascontiguousarray(values, dtype=np.float32)
    _refuse(
        np.isinf(features),
        columns,
        source,
        "finite numbers within float32, found an infinite or larger one",
        "correct them",
    )
    return features


def _refuse(
    bad: npt.NDArray[np.bool_], columns: Sequence[str], source: Source, fault: str, remedy: str
) -> None:
    """Raise about the first column with a bad cell, with places and how many there are in all."""
    counts = bad.sum(axis=0)
    affected = np.flatnonzero(counts)
    if not len(affected):
        return
    first = int(affected[0])
    others = f", and in {len(affected) - 1} more columns" if len(affected) > 1 else ""
    raise TableError(
        f"{source.name}: column {columns[first]!r}: expected {fault} at "
        f"{_places(np.flatnonzero(bad[:, first]), source)}{others} "
        f"({int(counts.sum())} cells in all); {remedy}"
    )


def _places(rows: Sequence[int] | pl.Series | npt.NDArray[np.intp], source: Source) -> str:
    shown = ", ".join(source.place(int(row)) for row in rows[:_SHOWN])
    return f"{shown} and {len(rows) - _SHOWN} more" if len(rows) > _SHOWN else shown


def _labels(column: pl.Series, source: Source, loss: str) -> LabelArray:
    values = column.to_numpy()
    if loss == "bce":
        wrong, expected = ~np.isin(values, (0.0, 1.0)), "a label of 0 or 1 (the loss is bce)"
    elif loss == "cross_entropy":
        wrong = ~((values >= 0) & (values < 2**31) & (values == np.floor(values)))
        expected = "a class of 0, 1, 2, ... (the loss is cross_entropy)"
    else:
        with np.errstate(over="ignore"):
            wrong = ~np.isfinite(values.astype(np.float32))
        expected = "a finite number, as float32, in every row"
    rows = np.flatnonzero(wrong)
    if len(rows):
        value = values[rows[0]]
        found = "none" if np.isnan(value) else f"{value:g}"
        raise TableError(
            f"{source.name}: label column {column.name!r}: expected {expected}, found {found} at "
            f"{_places(rows, source)}"
        )
    return values.astype(np.int64) if loss == "cross_entropy" else values.astype(np.float32)
