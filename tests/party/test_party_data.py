from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from slstream.errors import LocalProtocolError
from slstream.party.party_data import PartyData, rows_of
from slstream.party.tables import load_table
from slstream.protocol.actions import Rows
from tests.party.small_session import topology


def data(folder: Path, name: str = "bob", **changes: Any) -> PartyData:
    federation = topology(folder, **changes)
    party = federation.party(name)
    return PartyData(party, federation, load_table(party, federation), b"k" * 16)


def test_before_the_rows_are_aligned_there_are_no_batches(tmp_path: Path) -> None:
    own = data(tmp_path)
    assert own.rows == 52
    with pytest.raises(LocalProtocolError, match="not aligned"):
        own.train_batch(1, 1)
    with pytest.raises(LocalProtocolError, match="not aligned"):
        _ = own.largest_batch
    with pytest.raises(LocalProtocolError, match="without matching"):
        rows_of(None)


def test_batches_cover_the_training_rows_once_an_epoch(tmp_path: Path) -> None:
    own = data(tmp_path)
    rows, prepared = own.align(np.ones(52, dtype=np.bool_))
    assert isinstance(rows, Rows)
    assert (rows.train_rows, rows.validation_rows, rows.steps) == (39, 13, 3)
    assert rows_of(rows) is rows
    assert prepared.features.shape == (52, 2)
    orders = []
    for epoch in (1, 2):
        batches = [own.train_batch(epoch, step) for step in range(1, rows.steps + 1)]
        assert sorted(np.concatenate(batches)) == list(range(39))
        orders.append(np.concatenate(batches).tolist())
    assert orders[0] != orders[1]
    assert own.train_batch(1, 1).tolist() == orders[0][:16]
    validation = [own.evaluation_batch(n) for n in range(1, rows.evaluation_steps + 1)]
    assert np.concatenate(validation).tolist() == list(range(39, 52))
    assert own.largest_batch == 16


def test_the_largest_batch_may_be_one_of_validation(tmp_path: Path) -> None:
    own = data(tmp_path, training={"batch_size": 4, "epochs": 1, "validation": 0.5})
    own.align(np.ones(52, dtype=np.bool_))
    assert own.largest_batch == 26


def test_without_validation_rows(tmp_path: Path) -> None:
    own = data(tmp_path, training={"batch_size": 100, "epochs": 1, "validation": 0})
    rows, _ = own.align(np.ones(52, dtype=np.bool_))
    assert (rows.steps, rows.evaluation_steps) == (1, 0)
    assert own.largest_batch == 52
