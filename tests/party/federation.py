"""A tiny federation on disk: rows in different order, with partly different ids."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from slstream.topology import Topology

TOPOLOGY = """\
federation: tiny
seed: 11
parties:
  alice:
    role: label
    data: {path: alice.csv, label: y, features: ["a*"]}
    base: {model: mlp, args: {hidden: [4], out: 3, out_activation: relu}}
  bob:
    role: feature
    data: {path: bob.csv, id: customer, features: ["b*"]}
    base: {model: mlp, args: {out: 3, out_activation: relu}}
fuse: {model: linear, args: {out: 1}}
loss: bce
optimizer: {lr: 0.01}
training: {batch_size: 16, epochs: 2, validation: 0.25}
alignment: {min_rows: 10}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class TinyFederation:
    """What was written."""

    path: Path
    """The topology file; ``alice.csv`` and ``bob.csv`` are beside it."""
    common: frozenset[str]
    """Ids that both parties have."""

    def load(self, *overrides: str) -> Topology:
        return Topology.load(self.path, overrides)


def write_federation(
    folder: Path, *, common: int = 60, only_alice: int = 7, only_bob: int = 5
) -> TinyFederation:
    """Write a topology and two CSV files; ids look like numbers with leading zeros."""
    noise = np.random.default_rng(5)
    shared = [f"{n:03}" for n in range(common)]
    alice = [*shared, *(f"a{n}" for n in range(only_alice))]
    bob = [*shared, *(str(n) for n in range(only_bob))]  # "7" is not "007"
    noise.shuffle(alice)
    noise.shuffle(bob)
    lines = ["id,a1,a2,y"]
    for text in alice:
        first, second = noise.normal(size=2)
        lines.append(f"{text},{first:.4f},{second:.4f},{int(first + second > 0)}")
    (folder / "alice.csv").write_text("\n".join(lines) + "\n")
    lines = ["b1,b2,customer,note"]
    lines += [f"{n}.5,-{n},{text},anything" for n, text in enumerate(bob)]
    (folder / "bob.csv").write_text("\n".join(lines) + "\n")
    path = folder / "tiny.yaml"
    path.write_text(TOPOLOGY)
    return TinyFederation(path=path, common=frozenset(shared))
