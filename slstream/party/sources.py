"""Where a party's columns are read from: a CSV file, a Parquet file or a bundled data set."""

from __future__ import annotations

import csv
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import polars as pl

from slstream.errors import TableError
from slstream.party.bundled import load_bundled
from slstream.topology import Party, Topology

_FIRST_CSV_LINE = 2
"""The line of the first row: line 1 is the header."""

_CHUNK = 65_536
"""Rows that are Python objects at a time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source(ABC):
    """A table that can be asked for its column names before anything is read."""

    name: str
    """File as the user gave it, or the name of the bundled set; for messages."""
    columns: tuple[str, ...]

    @abstractmethod
    def read(self, text: str, numbers: Sequence[str]) -> pl.DataFrame:
        """Read some columns.

        Args:
            text: column to read as text (pl.String), exactly as written; whole numbers of a typed
                file become decimal text.
            numbers: columns to read as pl.Float64; an empty cell is null.

        Raises:
            TableError: the file cannot be read, or a cell is not a number.
        """

    def place(self, row: int) -> str:
        """Where row ``row`` (from 0) stands, for messages."""
        return f"row {row + 1}"


@dataclass(frozen=True, slots=True, kw_only=True)
class CsvSource(Source):
    """Comma-separated UTF-8 text with a header line.

    Read with Python's own module: polars takes a quote within a cell for the begin of a quoted one,
    and loses rows or moves cells without a word.
    """

    path: Path

    def read(self, text: str, numbers: Sequence[str]) -> pl.DataFrame:
        """See :meth:`Source.read`. Blank lines at the end are no rows."""
        cells = self._cells([text, *numbers])
        stripped = pl.col(list(numbers)).str.strip_chars()
        values = cells.select(
            pl.when(pl.col(text) == "").then(None).otherwise(pl.col(text)).name.keep(),
            pl.when(stripped == "").then(None).otherwise(stripped).name.keep(),
        )
        values = values.head(_rows_before_blank_end(values))
        parsed = values.with_columns(pl.col(list(numbers)).cast(pl.Float64, strict=False))
        for column in numbers:
            wrong = (parsed[column].is_null() & values[column].is_not_null()).arg_true()
            if len(wrong):
                raise TableError(
                    f"{self.name}: column {column!r}: expected a number, found "
                    f"{values[column][int(wrong[0])]!r} at {self.place(int(wrong[0]))} "
                    f"({len(wrong)} such cells); leave a cell without a value empty"
                )
        return parsed

    def _cells(self, columns: Sequence[str]) -> pl.DataFrame:
        """Some columns as they stand there, as pl.String; a blank line has empty cells."""
        schema = dict.fromkeys(columns, pl.String)
        parts, done, blank = [pl.DataFrame(schema=schema)], 0, [""] * len(self.columns)
        try:
            with self.path.open(encoding="utf-8-sig", newline="") as file:
                rows = csv.reader(file, strict=True)
                next(rows)
                while chunk := [row or blank for row in islice(rows, _CHUNK)]:
                    self._check_widths(chunk, done)
                    by_column = dict(zip(self.columns, zip(*chunk, strict=True), strict=True))
                    cells = {column: by_column[column] for column in columns}
                    parts.append(pl.DataFrame(cells, schema=schema))
                    done += len(chunk)
        except UnicodeDecodeError as error:
            raise _not_utf8(self.path) from error
        except OSError as error:
            raise TableError(f"{self.name}: cannot read the CSV file: {error}") from error
        except csv.Error as error:
            raise TableError(
                f"{self.name}: cannot read the CSV file: {error}; is each quote that begins a cell "
                "closed at the cell's end?"
            ) from error
        return pl.concat(parts)

    def _check_widths(self, rows: Sequence[Sequence[str]], before: int) -> None:
        expected = len(self.columns)
        for index, found in enumerate(map(len, rows), start=before):
            if found != expected:
                raise TableError(
                    f"{self.name}: expected {expected} cells, as the header has, found {found} at "
                    f"{self.place(index)}; a cell with a comma in it needs quotes"
                )

    def place(self, row: int) -> str:
        """The line, as an editor counts it; quoted cells with line breaks would shift it."""
        return f"line {row + _FIRST_CSV_LINE}"


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameSource(Source):
    """A table with typed columns: Parquet or bundled."""

    frame: pl.LazyFrame

    def read(self, text: str, numbers: Sequence[str]) -> pl.DataFrame:
        """See :meth:`Source.read`."""
        try:
            frame = self.frame.select(text, *numbers).collect()
        except (pl.exceptions.PolarsError, OSError) as error:
            raise TableError(f"{self.name}: cannot read the table: {_first_line(error)}") from error
        kind = frame.schema[text]
        if not (kind.is_integer() or kind in (pl.String, pl.Categorical, pl.Enum)):
            raise TableError(
                f"{self.name}: column {text!r}: expected ids as text or whole numbers, found {kind}"
            )
        for column in numbers:
            kind = frame.schema[column]
            if not (kind.is_numeric() or kind == pl.Boolean):
                raise TableError(f"{self.name}: column {column!r}: expected numbers, found {kind}")
        return frame.select(pl.col(text).cast(pl.String), pl.col(list(numbers)).cast(pl.Float64))


def open_source(party: Party, topology: Topology) -> Source:
    """Find a party's table and read its column names.

    Raises:
        TableError: no such file, not readable, no header, or a column name that stands twice.
    """
    path = topology.data_path(party)
    if path is None:
        name = party.data.bundled or ""
        frame = load_bundled(name)
        return FrameSource(name=f"bundled {name}", columns=tuple(frame.columns), frame=frame.lazy())
    if not path.is_file():
        where = topology.where("parties", party.id, "data", "path")
        raise TableError(f"{where}: no such file: {path}; a path is relative to the topology file")
    return _open_csv(path) if path.suffix.lower() == ".csv" else _open_parquet(path)


def _open_csv(path: Path) -> Source:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            header = next(csv.reader(file, strict=True), [])
    except UnicodeDecodeError as error:
        raise _not_utf8(path) from error
    except (OSError, csv.Error) as error:
        raise TableError(f"{path}: cannot read the header: {_first_line(error)}") from error
    if not header:
        raise TableError(f"{path}: expected a header line with column names, found an empty file")
    twice = sorted(name for name, count in Counter(header).items() if count > 1)
    if twice:
        raise TableError(f"{path}: column names must differ, found {twice[0]!r} more than once")
    return CsvSource(name=str(path), columns=tuple(header), path=path)


def _open_parquet(path: Path) -> Source:
    try:
        frame = pl.scan_parquet(path, glob=False)
        columns = tuple(frame.collect_schema().names())
    except (pl.exceptions.PolarsError, OSError) as error:
        raise TableError(f"{path}: cannot read the Parquet file: {_first_line(error)}") from error
    return FrameSource(name=str(path), columns=columns, frame=frame)


def _rows_before_blank_end(cells: pl.DataFrame) -> int:
    filled = cells.select(pl.any_horizontal(pl.all().is_not_null())).to_series().arg_true()
    return int(filled[-1]) + 1 if len(filled) else 0


def _not_utf8(path: Path) -> TableError:
    return TableError(f"{path}: expected UTF-8 text, found other bytes; save it as UTF-8")


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
