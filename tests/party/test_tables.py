from pathlib import Path

import numpy as np
import polars as pl
import pytest

from slstream.errors import TableError
from slstream.party.tables import PartyTable, load_table
from slstream.topology import Topology
from tests.party.federation import write_federation


def load_bob(folder: Path, content: str, data: str = "{path: x.csv}") -> PartyTable:
    topology = write_federation(folder).load(f"parties.bob.data={data}")
    (folder / "x.csv").write_text(content)
    return load_table(topology.party("bob"), topology)


def load_alice(folder: Path, content: str, *overrides: str) -> PartyTable:
    topology = write_federation(folder).load(
        "parties.alice.data={path: x.csv, label: y}", *overrides
    )
    (folder / "x.csv").write_text(content)
    return load_table(topology.party("alice"), topology)


def test_a_table_as_it_stands_in_the_file(tmp_path: Path) -> None:
    table = load_alice(tmp_path, "a,id,y,b\n1,007,1,2.5\n3,7,0,-4\n")
    assert table.ids == ("007", "7")
    assert table.columns == ("a", "b")
    assert table.features.dtype == np.float32
    assert table.features.flags.c_contiguous
    assert table.features.tolist() == [[1, 2.5], [3, -4]]
    assert table.labels is not None
    assert table.labels.dtype == np.float32
    assert table.labels.tolist() == [1, 0]
    assert table.rows == 2


def test_the_tiny_federation(tmp_path: Path) -> None:
    topology = write_federation(tmp_path).load()
    alice, bob = (load_table(party, topology) for party in topology.parties)
    assert alice.columns == ("a1", "a2")
    assert bob.columns == ("b1", "b2")
    assert bob.labels is None
    assert "007" in alice.ids
    assert alice.ids != tuple(sorted(alice.ids))


@pytest.mark.parametrize(
    ("features", "columns"),
    [
        ("['*']", ("a1", "a[2]", "b")),
        ("[b, 'a*']", ("b", "a1", "a[2]")),
        ("['a[2]']", ("a[2]",)),  # a column of this very name, not a pattern
        ("['?1', a1]", ("a1",)),
    ],
)
def test_features_by_name_and_pattern(
    features: str, columns: tuple[str, ...], tmp_path: Path
) -> None:
    table = load_bob(tmp_path, "a1,id,a[2],b\n1,x,2,3\n", f"{{path: x.csv, features: {features}}}")
    assert table.columns == columns


def test_a_label_party_without_features(tmp_path: Path) -> None:
    topology = write_federation(tmp_path).load(
        "parties.alice.data.features=[]", "parties.alice.base=null"
    )
    table = load_table(topology.party("alice"), topology)
    assert table.columns == ()
    assert table.features.shape == (67, 0)


def test_missing_values_are_kept_where_they_are_allowed(tmp_path: Path) -> None:
    table = load_bob(tmp_path, "id,x\na,\nb,nan\nc,3\n", "{path: x.csv, missing: mean}")
    assert np.isnan(table.features[:, 0]).tolist() == [True, True, False]


@pytest.mark.parametrize(
    ("content", "data", "message"),
    [
        ("id,x\n", "{path: x.csv}", "x.csv: expected rows, found only column names"),
        (
            "id,x\na,1\n,2\n",
            "{path: x.csv}",
            "x.csv: column 'id': expected an id in every row, found none at line 3",
        ),
        (
            "id,x\na,1\nb,2\na,3\nb,4\na,5\na,6\n",
            "{path: x.csv}",
            "x.csv: column 'id': expected unique ids, found duplicates: 'a' at line 2, line 4, "
            "line 6 and 1 more; 'b' at line 3, line 5",
        ),
        (
            "id,x,z\na,1,\nb,,2\nc,NaN,3\n",
            "{path: x.csv}",
            "x.csv: column 'x': expected a value in every row, found none at line 3, line 4, and "
            'in 1 more columns (3 cells in all); fill them, or set "missing: mean"',
        ),
        (
            "id,x\na,inf\nb,1e39\n",
            "{path: x.csv, missing: mean}",
            "x.csv: column 'x': expected finite numbers within float32, found an infinite or "
            "larger one at line 2, line 3 (2 cells in all); correct them",
        ),
    ],
)
def test_cells_that_cannot_be_used(content: str, data: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(TableError) as caught:
        load_bob(tmp_path, content, data)
    assert str(caught.value) == f"{tmp_path}/{message}"


def test_peers_are_told_neither_ids_nor_cells(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="patient-x") as caught:
        load_bob(tmp_path, "id,x\npatient-x,1\npatient-x,2\n")
    reason = caught.value.reason_for_peers
    assert reason == "its table cannot be used; the party itself was told why"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            "{path: x.csv, id: customer}",
            "parties.bob.data: {file} has no column 'customer'; did you mean \"customer_id\"? "
            "(known: age, customer_id)",
        ),
        (
            "{path: x.csv, id: customer_id, features: [agee]}",
            "parties.bob.data.features: {file} has no column 'agee'; did you mean \"age\"? (known: "
            "age, customer_id)",
        ),
        (
            "{path: x.csv, id: customer_id, features: ['b*']}",
            "parties.bob.data.features: {file} has no column 'b*' (known: age, customer_id)",
        ),
        (
            "{path: x.csv, id: customer_id, features: [customer_id]}",
            "parties.bob.data.features: 'customer_id' is the id or label column and cannot be a "
            "feature",
        ),
    ],
)
def test_columns_that_are_missing(data: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(TableError) as caught:
        load_bob(tmp_path, "customer_id,age\n1,2\n", data)
    place = f"--set parties.bob.data={data}: "
    assert str(caught.value) == place + message.format(file=tmp_path / "x.csv")


@pytest.mark.parametrize(
    ("loss", "labels", "message"),
    [
        ("bce", "0 1 2 3", "a label of 0 or 1 (the loss is bce), found 2 at line 4, line 5"),
        ("bce", "0 1 nan", "a label of 0 or 1 (the loss is bce), found none at line 4"),
        (
            "cross_entropy",
            "0 1.5",
            "a class of 0, 1, 2, ... (the loss is cross_entropy), found 1.5 ",
        ),
        (
            "cross_entropy",
            "-1",
            "a class of 0, 1, 2, ... (the loss is cross_entropy), found -1 at ",
        ),
        (
            "cross_entropy",
            "nan",
            "a class of 0, 1, 2, ... (the loss is cross_entropy), found none ",
        ),
        ("mse", "1.5 inf", "a finite number, as float32, in every row, found inf at line 3"),
        ("mse", "1.5 1e39", "a finite number, as float32, in every row, found 1e+39 at line 3"),
    ],
)
def test_labels_that_do_not_fit_the_loss(
    loss: str, labels: str, message: str, tmp_path: Path
) -> None:
    rows = "".join(f"r{n},1,{label}\n" for n, label in enumerate(labels.split()))
    with pytest.raises(TableError) as caught:
        load_alice(tmp_path, "id,x,y\n" + rows, f"loss={loss}")
    expected = f"{tmp_path / 'x.csv'}: label column 'y': expected {message}"
    assert str(caught.value).startswith(expected)


@pytest.mark.parametrize(
    ("loss", "dtype"),
    [("bce", "float32"), ("cross_entropy", "int64"), ("mse", "float32"), ("m:Loss", "float32")],
)
def test_labels_have_the_type_of_the_loss(loss: str, dtype: str, tmp_path: Path) -> None:
    table = load_alice(tmp_path, "id,x,y\na,1,0\nb,1,1\n", f"loss={loss}")
    assert table.labels is not None
    assert table.labels.dtype == dtype
    assert table.labels.tolist() == [0, 1]


def test_bundled_tables_of_three_parties() -> None:
    path = Path(__file__).parents[2] / "topology" / "breast-cancer.yaml"
    topology = Topology.load(path)
    tables = [load_table(party, topology) for party in topology.parties]
    assert [len(table.columns) for table in tables] == [10, 10, 10]
    assert len({column for table in tables for column in table.columns}) == 30
    assert tables[0].ids == tables[1].ids == tables[2].ids


def test_the_halves_of_a_digit_come_row_by_row() -> None:
    topology = Topology.load(Path(__file__).parents[2] / "topology" / "digits.yaml")
    left = load_table(topology.party("left"), topology)
    assert left.columns[:5] == ("pixel_0_0", "pixel_0_1", "pixel_0_2", "pixel_0_3", "pixel_1_0")
    assert left.features[0, :4].tolist() == [0, 0, 5, 13]


def test_a_large_table_is_read_exactly(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).normal(size=(70_000, 3)).round(6)
    frame = pl.DataFrame({"id": range(70_000), **{f"x{n}": noise[:, n] for n in range(3)}})
    topology = write_federation(tmp_path).load("parties.bob.data={path: x.csv}")
    frame.write_csv(tmp_path / "x.csv")
    table = load_table(topology.party("bob"), topology)
    assert table.ids == tuple(map(str, range(70_000)))
    assert np.array_equal(table.features, noise.astype(np.float32))
