import pytest

from slstream.party.bundled import load_bundled


@pytest.mark.parametrize(
    ("name", "rows", "features", "label", "last_id"),
    [
        ("breast_cancer", 569, 30, "malignant", "breast_cancer-0568"),
        ("digits", 1797, 64, "digit", "digits-1796"),
        ("wine", 178, 13, "cultivar", "wine-0177"),
        ("diabetes", 442, 10, "progression", "diabetes-0441"),
    ],
)
def test_each_set_has_ids_features_and_a_label(
    name: str, rows: int, features: int, label: str, last_id: str
) -> None:
    frame = load_bundled(name)
    assert frame.shape == (rows, features + 2)
    assert frame.columns[0] == "id"
    assert frame.columns[-1] == label
    assert frame["id"][-1] == last_id
    assert frame["id"].n_unique() == rows


def test_malignant_is_one() -> None:
    # 212 of the 569 tumours are malignant; scikit-learn numbers them the other way round.
    assert load_bundled("breast_cancer")["malignant"].sum() == 212


def test_pixels_are_named_by_row_and_column() -> None:
    digits = load_bundled("digits")
    # The upper left corner is always empty; the last column of the first image's row 1 too.
    assert digits["pixel_0_0"].max() == 0
    assert digits.row(0)[1:9] == (0, 0, 5, 13, 9, 1, 0, 0)
    assert digits.columns[9] == "pixel_1_0"
