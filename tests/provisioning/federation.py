"""A federation of three parties for tests, and what each may do, written out by hand."""

from __future__ import annotations

import uuid
from pathlib import Path

from slstream.topology import Topology

SESSION = "s1"
PARTIES = ("alice", "bob", "carol")
"""The first is the label party."""

TOPOLOGY = """\
federation: {federation}
seed: 1
parties:
  alice:
    role: label
    data: {{path: alice.csv, label: y}}
  bob:
    role: feature
    data: {{path: bob.csv}}
    base: {{model: mlp, args: {{out: 3}}}}
  carol:
    role: feature
    data: {{path: carol.csv}}
    base: {{model: mlp, args: {{out: 3}}}}
fuse: {{model: linear, args: {{out: 1}}}}
loss: bce
transport: {transport}
"""


def new_name() -> str:
    """A federation that no other test has on a shared broker."""
    return f"f{uuid.uuid4().hex[:12]}"


def write_topology(
    folder: Path, *, federation: str = "credit", transport: str = "kafka://127.0.0.1:9092"
) -> Path:
    path = folder / "credit.yaml"
    path.write_text(TOPOLOGY.format(federation=federation, transport=transport))
    return path


def load_topology(
    folder: Path, *, federation: str = "credit", transport: str = "kafka://127.0.0.1:9092"
) -> Topology:
    return Topology.load(write_topology(folder, federation=federation, transport=transport))


LASTING = (
    "lobby",
    "schemas",
    *(
        f"{kind}.{party}"
        for kind in ("incarnations", "divergences", "telemetry")
        for party in PARTIES
    ),
)
LINKS = tuple(
    f"{link}.{SESSION}"
    for link in ("bob-to-alice", "alice-to-bob", "carol-to-alice", "alice-to-carol")
)
TOPICS = (*LASTING, *LINKS)
"""Without the federation's name before them."""

_OWN = {
    party: {f"{kind}.{party}" for kind in ("incarnations", "divergences", "telemetry")}
    for party in PARTIES
}
MAY_WRITE: dict[str, set[str]] = {
    "alice": {"lobby", "schemas", "alice-to-bob.s1", "alice-to-carol.s1"} | _OWN["alice"],
    "bob": {"schemas", "bob-to-alice.s1"} | _OWN["bob"],
    "carol": {"schemas", "carol-to-alice.s1"} | _OWN["carol"],
    "mallory": set(),
    "admin": set(TOPICS),
}
MAY_READ: dict[str, set[str]] = {
    "alice": MAY_WRITE["alice"] | {"bob-to-alice.s1", "carol-to-alice.s1"},
    "bob": MAY_WRITE["bob"] | {"lobby", "alice-to-bob.s1"},
    "carol": MAY_WRITE["carol"] | {"lobby", "alice-to-carol.s1"},
    "mallory": set(),
    "admin": set(TOPICS),
}
MAY_CREATE: dict[str, set[str]] = {
    "alice": set(LINKS),
    "bob": {"bob-to-alice.s1", "alice-to-bob.s1"},
    "carol": {"carol-to-alice.s1", "alice-to-carol.s1"},
    "mallory": set(),
    "admin": set(TOPICS),
}
