"""What a topology asks of a session, in the protocol's terms."""

from __future__ import annotations

from slstream.protocol.early_stop import EarlyStop
from slstream.protocol.session import Plan
from slstream.topology.topology import Topology


def plan_of(topology: Topology) -> Plan:
    """Epochs and early stopping."""
    stop = topology.training.early_stop
    return Plan(
        epochs=topology.training.epochs,
        early_stop=None
        if stop is None
        else EarlyStop(metric=stop.metric, patience=stop.patience, min_delta=stop.min_delta),
    )
