"""Small sessions of real parties in one event loop, over a real log in a directory."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from slstream.party.compute import ComputeThread
from slstream.party.runtime import Listener, PartyRuntime
from slstream.party.summary import Summary
from slstream.topology import Topology
from slstream.transport.contract import Record
from slstream.transport.embedded.transport import EmbeddedTransport

FEATURES = ("bob", "carol", "dave")
PREFIX = "customer-of-both-"
RAW = {"forward": "raw32", "backward": "raw32", "evaluation": "raw32"}


def write_tables(folder: Path, features: Sequence[str] = FEATURES, *, common: int = 48) -> None:
    """Tables in different order, with partly different ids of a form that is found anywhere."""
    noise = np.random.default_rng(3)
    values = {f"{PREFIX}{n:04}": noise.normal(size=2) for n in range(common)}
    for place, name in enumerate(("alice", *features)):
        own = {f"customer-of-{name}-{n:04}": noise.normal(size=2) for n in range(3 + place)}
        rows = list((values | own).items())
        noise.shuffle(rows)
        lines = ["id,x,z,y"]
        lines += [f"{key},{x + place:.4f},{z:.4f},{int(x + z > 0)}" for key, (x, z) in rows]
        (folder / f"{name}.csv").write_text("\n".join(lines) + "\n")


def document(features: int = 1, **changes: Any) -> dict[str, Any]:
    """A topology; ``changes`` replace its sections."""
    base = {"model": "mlp", "args": {"out": 3, "out_activation": "relu"}}
    parties: dict[str, Any] = {
        "alice": {
            "role": "label",
            "data": {"path": "alice.csv", "label": "y", "features": ["x"]},
            "base": base,
        }
    }
    for name in FEATURES[:features]:
        source = {"path": f"{name}.csv", "features": ["x", "z"]}
        parties[name] = {"role": "feature", "data": source, "base": base}
    return {
        "federation": "small",
        "seed": 3,
        "parties": parties,
        "fuse": {"model": "linear", "args": {"out": 1}},
        "loss": "bce",
        "training": {"batch_size": 16, "epochs": 2, "validation": 0.25},
        "alignment": {"min_rows": 10},
        "codec": RAW,
        "timeouts": {"peer_s": 20},
        **changes,
    }


def topology(folder: Path, features: int = 1, **changes: Any) -> Topology:
    """As :func:`document`, checked; the tables are written unless they are there."""
    if not (folder / "alice.csv").exists():
        write_tables(folder)
    return Topology.from_dict(document(features, **changes), folder)


Outcome = Summary | Exception


def compute_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let one party compute at a time: torch has one generator in a process, which each seeds."""
    timed, one_party = ComputeThread._timed, threading.Lock()

    def alone(compute: ComputeThread, function: Callable[[], object]) -> object:
        with one_party:
            return timed(compute, function)

    monkeypatch.setattr(ComputeThread, "_timed", alone)


async def take_part(
    name: str,
    topology: Topology,
    directory: Path,
    listener: Listener | None = None,
    *,
    begin_new: bool = False,
) -> Outcome:
    """Run one party; what it returned or raised."""
    listener = listener or (lambda progress: None)
    runtime = PartyRuntime(name, topology, directory, listener, begin_new=begin_new)
    try:
        return await runtime.run()
    except Exception as error:  # noqa: BLE001 - the outcome is what a test looks at
        return error


def run_all(
    directory: Path, parties: Mapping[str, Topology] | Topology, *, begin_new: bool = False
) -> dict[str, Outcome]:
    """Run several parties to their ends: all of one topology, or each with its own."""
    if isinstance(parties, Topology):
        parties = {party.id: parties for party in parties.parties}

    async def main() -> dict[str, Outcome]:
        ends = (
            take_part(name, own, directory, begin_new=begin_new and name == "alice")
            for name, own in parties.items()
        )
        return dict(zip(parties, await asyncio.gather(*ends), strict=True))

    return asyncio.run(main())


def summary_of(outcome: Outcome) -> Summary:
    """The summary of a party that ended well; raises what it raised otherwise."""
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


@dataclass(kw_only=True)
class Tampering:
    """Changes what one party appends to one link."""

    sender: str
    receiver: str
    change: Callable[[int, Record], Sequence[Record]]
    """(number of the record on the link, the record) -> what is appended instead."""
    seen: int = 0

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        original = EmbeddedTransport.append

        async def append(
            transport: EmbeddedTransport,
            topic: str,
            records: Sequence[Record],
            *,
            partition: int = 0,
        ) -> int:
            if f".{self.sender}-to-{self.receiver}." in topic:
                changed: list[Record] = []
                for record in records:
                    changed += self.change(self.seen, record)
                    self.seen += 1
                records = changed
            return await original(transport, topic, records, partition=partition)

        monkeypatch.setattr(EmbeddedTransport, "append", append)
