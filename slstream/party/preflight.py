"""Everything that can be checked before a session: data, models and codecs of a topology."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from torch import nn

from slstream.errors import DataError
from slstream.party.codec_choice import check_codecs
from slstream.party.device import open_device
from slstream.party.key_file import read_key_file
from slstream.party.losses import build_loss
from slstream.party.models import build_base, build_fuse
from slstream.party.tables import load_table
from slstream.topology import Party, Topology


@dataclass(frozen=True, slots=True, kw_only=True)
class PartyFacts:
    """What the check found out about one party."""

    party: str
    role: str
    rows: int
    columns: int
    """Feature columns."""
    cut: tuple[int, ...]
    """Shape of one row's activation; empty without a base model."""
    parameters: int
    """Trainable numbers of its base model, and of the fuse model at the label party."""


def check_parties(topology: Topology, parties: Collection[Party]) -> tuple[PartyFacts, ...]:
    """Read the parties' tables, build their models, and try these on zeros.

    The fuse model is tried only when all parties are checked: it needs the shape of every cut.

    Args:
        topology: the federation.
        parties: those whose data is on this machine.

    Raises:
        DataError: a table or the key file cannot be used, or a table has too few rows.
        ModelError: a model cannot be built or does not fit.
        TopologyError: a codec chain that no codec accepts, or a device that is not there.
    """
    check_codecs(topology)
    for party in parties:
        open_device(party, topology)
    read_key_file(topology)
    tables = {party.id: load_table(party, topology) for party in parties}
    for name, table in tables.items():
        if table.rows < topology.alignment.min_rows:
            raise DataError(
                f"expected at least {topology.alignment.min_rows} rows that all parties have "
                f"(alignment.min_rows), found {table.rows} in the table of {name}"
            )
    bases = {
        party.id: build_base(party, topology, in_features=len(tables[party.id].columns))
        for party in parties
        if party.base is not None
    }
    parameters = {name: _count(base.module) for name, base in bases.items()}
    label = topology.label_party
    if len(tables) == len(topology.parties):
        labels = tables[label.id].labels
        fuse = build_fuse(
            topology,
            cut_shapes={name: base.cut_shape for name, base in bases.items()},
            labels=np.zeros(1, dtype=np.float32) if labels is None else labels,
        )
        build_loss(topology.loss, topology.modules, topology.where("loss"))
        parameters[label.id] = parameters.get(label.id, 0) + _count(fuse)
    return tuple(
        PartyFacts(
            party=party.id,
            role=party.role.value,
            rows=tables[party.id].rows,
            columns=len(tables[party.id].columns),
            cut=bases[party.id].cut_shape if party.id in bases else (),
            parameters=parameters.get(party.id, 0),
        )
        for party in parties
    )


def _count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters() if p.requires_grad)
