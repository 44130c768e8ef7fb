from __future__ import annotations

from pathlib import Path

from slstream.party.plan import plan_of
from slstream.protocol.early_stop import EarlyStop
from slstream.protocol.schedule import Order, Schedule
from slstream.protocol.session import Plan
from tests.party.small_session import topology


def test_a_plan_is_what_the_topology_says(tmp_path: Path) -> None:
    assert plan_of(topology(tmp_path)) == Plan(epochs=2, schedule=Schedule(batch_size=16))
    stop = {"metric": "auc", "patience": 3, "min_delta": 0.5}
    training = {"batch_size": 16, "epochs": 7, "early_stop": stop}
    assert plan_of(topology(tmp_path, training=training)) == Plan(
        epochs=7,
        schedule=Schedule(batch_size=16),
        early_stop=EarlyStop(metric="auc", patience=3, min_delta=0.5),
    )
    local = {"name": "local", "base_steps": 2, "fuse_steps": 3, "exchange_every": 4}
    assert plan_of(topology(tmp_path, schedule=local)).schedule == Schedule(
        order=Order.LOCAL, batch_size=16, base_steps=2, fuse_steps=3, exchange_every=4
    )
    slices = {"batch_size": 16, "micro_batch_size": 4}
    assert plan_of(topology(tmp_path, schedule="microbatch", training=slices)).schedule == Schedule(
        order=Order.MICROBATCH, batch_size=16, micro_batch_size=4
    )
    pipeline = {"name": "pipeline", "pipeline_size": 3}
    assert plan_of(topology(tmp_path, schedule=pipeline)).schedule == Schedule(
        order=Order.PIPELINE, batch_size=16, pipeline_size=3
    )
