from pathlib import Path

import polars as pl
import pytest

from slstream.errors import TableError
from slstream.party import sources
from slstream.party.sources import open_source
from slstream.topology import Topology
from tests.party.federation import write_federation


def topology_of(folder: Path, data: str) -> Topology:
    return write_federation(folder).load(f"parties.bob.data={data}")


def read(folder: Path, name: str, text: str, *numbers: str) -> pl.DataFrame:
    topology = topology_of(folder, f'{{path: "{name}"}}')
    return open_source(topology.party("bob"), topology).read(text, numbers)


def test_csv_ids_stay_text_and_cells_become_numbers(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_bytes(
        b'\xef\xbb\xbfid,x,y\r\n007, 1.5 ,2\r\n7,"1e3",\r\n" 8",-.5,""\r\nNA,nan,+3\r\n'
    )
    frame = read(tmp_path, "x.csv", "id", "x", "y")
    assert frame["id"].to_list() == ["007", "7", " 8", "NA"]
    assert frame["x"].to_list()[:3] == [1.5, 1000.0, -0.5]
    assert frame["x"].is_nan().to_list() == [False, False, False, True]
    assert frame["y"].to_list() == [2.0, None, None, 3.0]


def test_blank_lines_at_the_end_are_no_rows(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("id,x\na,1\n\n\n")
    assert read(tmp_path, "x.csv", "id", "x").height == 1


def test_a_quote_within_a_cell_is_one(tmp_path: Path) -> None:
    """Also in a column that nobody reads."""
    rows = [b"c%d,%d,%s" % (n, n, b'5" pipe' if n in (1, 3) else b"x") for n in range(5)]
    (tmp_path / "x.csv").write_bytes(b"\n".join([b"id,x,note", *rows]))
    found = read(tmp_path, "x.csv", "id", "x")
    assert found["id"].to_list() == [f"c{n}" for n in range(5)]
    assert found["x"].to_list() == [0, 1, 2, 3, 4]
    assert read(tmp_path, "x.csv", "note")["note"][1] == '5" pipe'


def test_a_quoted_cell_may_hold_anything(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_bytes(b'id,note,x\r\n"a,b","two\r\nlines ""q""",1\r\nc,,2\r\n')
    found = read(tmp_path, "x.csv", "id", "x")
    assert found.rows() == [("a,b", 1.0), ("c", 2.0)]


def test_large_files_are_read_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "_CHUNK", 3)
    for count in (0, 2, 3, 7):
        rows = [b"c%d,%d" % (n, n) for n in range(count)]
        (tmp_path / "x.csv").write_bytes(b"\n".join([b"id,x", *rows]))
        assert read(tmp_path, "x.csv", "id", "x")["x"].to_list() == list(range(count))


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_a_name_is_no_pattern(form: str, tmp_path: Path) -> None:
    """Neither its own nor that of a folder."""
    for folder, number in (("data [v2]", 2), ("data v", 1)):
        (tmp_path / folder).mkdir()
        frame = pl.DataFrame({"id": ["a"], "x": [number]})
        for name in (f"x?.{form}", f"x1.{form}"):
            path = tmp_path / folder / name
            frame.write_csv(path) if form == "csv" else frame.write_parquet(path)
    assert read(tmp_path, f"data [v2]/x?.{form}", "id", "x").rows() == [("a", 2.0)]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            b"id,x\na,1\nb,NA\nc,high\n",
            "column 'x': expected a number, found 'NA' at line 3 (2 such cells); leave a cell "
            "without a value empty",
        ),
        (b"id,x\na,1\nb,1,2\n", "expected 2 cells, as the header has, found 3 at line 3; a cell"),
        (b"id,x,note\na,1,5,x\n", "expected 3 cells, as the header has, found 4 at line 2; a cell"),
        (b"id,x,note\na,1\n", "expected 3 cells, as the header has, found 2 at line 2; a cell"),
        (
            b'id,x,note\na,1,"b\nc,2,d\n',
            "cannot read the CSV file: unexpected end of data; is each quote",
        ),
        (b'id,x,note\na,1,"b"c\n', "cannot read the CSV file: ',' expected after '\"'"),
        (b"id,x\na,\xff\n", "expected UTF-8 text, found other bytes; save it as UTF-8"),
        (b"id\xff,x\n", "expected UTF-8 text, found other bytes; save it as UTF-8"),
        (b"id,x\n" + b"a,1\n" * 9000 + b"b,\xff\n", "expected UTF-8 text, found other bytes"),
        (b"", "expected a header line with column names, found an empty file"),
        (b"id,x,x\n", "column names must differ, found 'x' more than once"),
    ],
)
def test_csv_files_that_cannot_be_used(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_bytes(content)
    with pytest.raises(TableError) as caught:
        read(tmp_path, "x.csv", "id", "x")
    assert str(caught.value).startswith(f"{tmp_path / 'x.csv'}: {message}")


def test_parquet_ids_become_decimal_text(tmp_path: Path) -> None:
    pl.DataFrame({"id": [7, 10**15], "x": [True, False], "y": [1, None]}).write_parquet(
        tmp_path / "x.parquet"
    )
    frame = read(tmp_path, "x.parquet", "id", "x", "y")
    assert frame["id"].to_list() == ["7", "1000000000000000"]
    assert frame["x"].to_list() == [1.0, 0.0]
    assert frame["y"].to_list() == [1.0, None]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (
            {"id": [1.0], "x": [1]},
            "column 'id': expected ids as text or whole numbers, found Float64",
        ),
        ({"id": ["a"], "x": ["1"]}, "column 'x': expected numbers, found String"),
    ],
)
def test_parquet_columns_of_the_wrong_type(
    columns: dict[str, list[object]], message: str, tmp_path: Path
) -> None:
    pl.DataFrame(columns).write_parquet(tmp_path / "x.parquet")
    with pytest.raises(TableError) as caught:
        read(tmp_path, "x.parquet", "id", "x")
    assert str(caught.value) == f"{tmp_path / 'x.parquet'}: {message}"


def test_a_file_that_is_no_parquet(tmp_path: Path) -> None:
    (tmp_path / "x.parquet").write_text("id,x\n")
    with pytest.raises(TableError, match="cannot read the Parquet file: parquet: File out of spec"):
        read(tmp_path, "x.parquet", "id")


def test_a_missing_file_says_where_it_is_named(tmp_path: Path) -> None:
    federation = write_federation(tmp_path)
    (tmp_path / "bob.csv").unlink()
    topology = federation.load()
    with pytest.raises(TableError) as caught:
        open_source(topology.party("bob"), topology)
    assert str(caught.value) == (
        f"{federation.path}:10: parties.bob.data.path: no such file: {tmp_path / 'bob.csv'}; "
        "a path is relative to the topology file"
    )


def test_places_are_lines_of_csv_and_rows_of_others(tmp_path: Path) -> None:
    topology = topology_of(tmp_path, "{path: alice.csv}")
    assert open_source(topology.party("bob"), topology).place(0) == "line 2"
    topology = topology_of(tmp_path, "{bundled: wine}")
    assert open_source(topology.party("bob"), topology).place(0) == "row 1"
