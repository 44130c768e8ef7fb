"""Data sets that ship inside scikit-learn, as tables with stable ids.

===============  =====  ==========================================  ======================
name             rows   features                                    label
===============  =====  ==========================================  ======================
breast_cancer      569  30: ``mean *``, ``* error``, ``worst *``    ``malignant`` (0, 1)
digits           1,797  64: ``pixel_ROW_COLUMN``, 0 to 7 each       ``digit`` (0 to 9)
wine               178  13                                          ``cultivar`` (0 to 2)
diabetes           442  10                                          ``progression``
===============  =====  ==========================================  ======================
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl

ID_COLUMN = "id"


def load_bundled(name: str) -> pl.DataFrame:
    """One of the data sets above: column ``id`` (text), the features, the label.

    Args:
        name: as in the table above; the topology has checked it.
    """
    # Loading scikit-learn takes a second, which parties with data of their own need not spend.
    from sklearn import datasets

    bunch = getattr(datasets, f"load_{name}")()
    target: npt.NDArray[np.generic] = bunch.target
    if name == "breast_cancer":
        columns, label, target = list(bunch.feature_names), "malignant", 1 - target
    elif name == "digits":
        columns = [f"pixel_{row}_{column}" for row in range(8) for column in range(8)]
        label = "digit"
    else:
        columns = list(bunch.feature_names)
        label = {"wine": "cultivar", "diabetes": "progression"}[name]
    ids = [f"{name}-{row:04d}" for row in range(len(target))]
    return pl.DataFrame(
        {
            ID_COLUMN: ids,
            **{str(column): bunch.data[:, i] for i, column in enumerate(columns)},
            label: target,
        }
    )
