"""What a topology asks of a session, in the protocol's terms."""

from __future__ import annotations

from slstream.protocol.early_stop import EarlyStop
from slstream.protocol.schedule import Order, Schedule
from slstream.protocol.session import Plan
from slstream.topology.topology import Topology


def plan_of(topology: Topology) -> Plan:
    """Epochs, schedule and early stopping."""
    training, schedule = topology.training, topology.schedule
    stop = training.early_stop
    return Plan(
        epochs=training.epochs,
        schedule=Schedule(
            order=Order(schedule.name),
            batch_size=training.batch_size,
            micro_batch_size=training.micro_batch_size,
            pipeline_size=schedule.pipeline_size,
            base_steps=schedule.base_steps,
            fuse_steps=schedule.fuse_steps,
            exchange_every=schedule.exchange_every,
        ),
        early_stop=None
        if stop is None
        else EarlyStop(metric=stop.metric, patience=stop.patience, min_delta=stop.min_delta),
    )
