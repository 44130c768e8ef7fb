from __future__ import annotations

from pathlib import Path

from slstream.party.plan import plan_of
from slstream.protocol.early_stop import EarlyStop
from slstream.protocol.session import Plan
from tests.party.small_session import topology


def test_a_plan_is_what_the_topology_says(tmp_path: Path) -> None:
    assert plan_of(topology(tmp_path)) == Plan(epochs=2)
    stop = {"metric": "auc", "patience": 3, "min_delta": 0.5}
    training = {"batch_size": 16, "epochs": 7, "early_stop": stop}
    assert plan_of(topology(tmp_path, training=training)) == Plan(
        epochs=7, early_stop=EarlyStop(metric="auc", patience=3, min_delta=0.5)
    )
