"""The model of a federation as one torch module, trained by a plain loop.

Written without the package's training code: only tables, row order, batches and model
construction come from it. It is what sessions are compared with, to the bit.
"""

from __future__ import annotations

import torch
from torch import nn

from slstream.party.alignment import id_digests, intersect, match_bitmap, parse_bitmap, sort_digests
from slstream.party.models import build_base, build_fuse
from slstream.party.party_data import PartyData
from slstream.party.tables import load_table
from slstream.seeds import derive_seed
from slstream.topology import Topology

LOSSES = {"bce": nn.BCEWithLogitsLoss, "cross_entropy": nn.CrossEntropyLoss}


def train_joined(topology: Topology) -> dict[str, dict[str, torch.Tensor]]:
    """Final weights by party, named as in ``model.safetensors``."""
    torch.set_num_threads(topology.threads)
    key = b"0123456789abcdef"
    tables = {party.id: load_table(party, topology) for party in topology.parties}
    digests = {p: sort_digests(id_digests(t.ids, key)).digests for p, t in tables.items()}
    matched = intersect(list(digests.values()))
    data, features, bases, labels = {}, {}, {}, None
    for party in topology.parties:
        own = PartyData(party, topology, tables[party.id], key)
        bits = match_bitmap(digests[party.id], matched)
        rows, prepared = own.align(parse_bitmap(bits, rows=own.rows, party=party.id))
        data[party.id] = own
        if prepared.labels is not None:
            labels = prepared.labels
        if party.base is not None:
            features[party.id] = torch.from_numpy(prepared.features)
            bases[party.id] = build_base(party, topology, in_features=prepared.features.shape[1])
    assert labels is not None
    leader = topology.label_party.id
    fuse = build_fuse(
        topology, cut_shapes={p: b.cut_shape for p, b in bases.items()}, labels=labels
    )
    modules = {p: b.module for p, b in bases.items()}
    everything = nn.ModuleList([*modules.values(), fuse])
    optimizer = torch.optim.Adam(everything.parameters(), lr=topology.optimizer.lr)
    targets, loss_of = torch.from_numpy(labels), LOSSES[topology.loss]()
    everything.train()
    for epoch in range(1, topology.training.epochs + 1):
        for step in range(1, rows.steps + 1):
            batch = torch.from_numpy(data[leader].train_batch(epoch, step))
            cuts = []
            for name in sorted(modules):
                torch.manual_seed(derive_seed(topology.seed, "forward", name, epoch, step))
                cuts.append(modules[name](features[name][batch]))
            torch.manual_seed(derive_seed(topology.seed, "fuse", leader, epoch, step))
            output = fuse(torch.cat(cuts, dim=1))
            target = targets[batch]
            loss = loss_of(output.squeeze(-1) if target.is_floating_point() else output, target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    weights = {
        owner: {f"base.{name}": t for name, t in module.state_dict().items()}
        for owner, module in modules.items()
    }
    weights.setdefault(leader, {}).update(
        {f"fuse.{name}": t for name, t in fuse.state_dict().items()}
    )
    return weights
