import numpy as np
import numpy.typing as npt
import pytest

from slstream.errors import DataError, TableError
from slstream.party.scaling import Scaling, prepare
from slstream.party.tables import PartyTable
from slstream.topology import DataSource


def table(features: list[list[float]]) -> PartyTable:
    values = np.array(features, dtype=np.float32)
    return PartyTable(
        ids=tuple(map(str, range(len(values)))),
        columns=tuple(f"c{n}" for n in range(values.shape[1])),
        features=values,
        labels=np.arange(len(values), dtype=np.int64),
    )


def source(**keys: object) -> DataSource:
    return DataSource.model_validate({"path": "x.csv", **keys})


def order(*rows: int) -> npt.NDArray[np.int64]:
    return np.array(rows, dtype=np.int64)


def test_scaled_by_training_rows_only() -> None:
    # Rows 2 and 0 train: mean 2, deviation 1. Row 1 must not shift them.
    prepared = prepare(table([[3.0], [100.0], [1.0]]), source(), rows=order(2, 0, 1), train_rows=2)
    assert prepared.features.tolist() == [[-1.0], [1.0], [98.0]]
    assert prepared.features.dtype == np.float32
    assert prepared.labels is not None
    assert prepared.labels.tolist() == [2, 0, 1]


def test_rows_may_be_left_as_they_are() -> None:
    prepared = prepare(
        table([[3.0], [9.0], [1.0]]), source(scale="none"), rows=order(2, 0), train_rows=1
    )
    assert prepared.features.tolist() == [[1.0], [3.0]]


def test_a_constant_column_becomes_zero() -> None:
    rows = [[0.1, float(n)] for n in range(10)] + [[7.0, 0.0]]
    prepared = prepare(table(rows), source(), rows=order(*range(11)), train_rows=10)
    assert prepared.features[:, 0].tolist() == [0.0] * 11
    assert prepared.features[:, 1].std() > 0


def test_missing_values_become_the_training_mean() -> None:
    nan = float("nan")
    features = [[1.0], [nan], [3.0], [nan], [100.0]]
    plain = prepare(
        table(features),
        source(missing="mean", scale="none"),
        rows=order(0, 1, 2, 3, 4),
        train_rows=3,
    )
    assert plain.features.tolist() == [[1.0], [2.0], [3.0], [2.0], [100.0]]
    scaled = prepare(
        table(features), source(missing="mean"), rows=order(0, 1, 2, 3, 4), train_rows=3
    )
    assert scaled.features[1, 0] == scaled.features[3, 0] == 0.0


def test_a_column_without_any_value_cannot_be_filled() -> None:
    features = [[1.0, float("nan")], [2.0, float("nan")], [3.0, 5.0]]
    with pytest.raises(TableError) as caught:
        prepare(table(features), source(missing="mean"), rows=order(0, 1, 2), train_rows=2)
    assert str(caught.value) == (
        "column 'c1': expected a value in at least one of the 2 training rows to fill the others "
        "with, found none; leave it out"
    )


def test_no_columns() -> None:
    labels_only = table([[1.0], [2.0]])
    empty = PartyTable(
        ids=labels_only.ids,
        columns=(),
        features=np.zeros((2, 0), dtype=np.float32),
        labels=labels_only.labels,
    )
    assert prepare(empty, source(), rows=order(1, 0), train_rows=1).features.shape == (2, 0)


def test_new_rows_are_scaled_alike() -> None:
    nan = float("nan")
    features = [[1.0, 5.0, 2.0], [nan, 5.0, 4.0], [3.5, 5.0, 0.1], [7.0, 6.0, 9.0]]
    prepared = prepare(
        table(features), source(missing="mean"), rows=order(2, 0, 1, 3), train_rows=3
    )
    restored = Scaling.from_json(prepared.scaling.to_json())
    assert restored.columns == ("c0", "c1", "c2")
    again = restored.apply(np.array(features, dtype=np.float32)[[2, 0, 1, 3]])
    assert again.tobytes() == prepared.features.tobytes()


def test_a_scaling_for_other_columns_is_refused() -> None:
    prepared = prepare(table([[1.0], [2.0]]), source(), rows=order(0, 1), train_rows=2)
    with pytest.raises(DataError, match=r"^expected rows of 1 columns, found shape \[2, 3\]$"):
        prepared.scaling.apply(np.zeros((2, 3), dtype=np.float32))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "scaling: not such a document"),
        ("[]", "scaling: not such a document"),
        ('{"format": 2, "columns": []}', "scaling: expected format 1, found 2"),
        ('{"format": 1, "columns": [{"name": "a"}]}', "scaling: not such a document: 'fill'"),
    ],
)
def test_a_damaged_scaling_is_refused(text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        Scaling.from_json(text)
