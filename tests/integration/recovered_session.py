"""A small session whose parties come back after each of their deaths."""

from __future__ import annotations

import hashlib
import json
import signal
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import wait
from pathlib import Path
from time import monotonic

from slstream.party.summary import Summary, Traffic
from tests.integration.faults import Fault
from tests.integration.forked_party import PATIENCE_S, ForkedParty, all_ended
from tests.integration.processes import write_federation

PARTIES = ("alice", "bob", "carol")

BASE = {"model": "mlp", "args": {"hidden": [8], "out": 3, "out_activation": "relu", "dropout": 0.2}}
CHANGES = {
    "training": {"batch_size": 8, "epochs": 3, "validation": 0.25},
    "optimizer": {"name": "adam", "lr": 0.01},
    "checkpoints": {"every_steps": 2},
    "timeouts": {"peer_s": 60},
}
"""Dropout and Adam: both have state, or randomness, that a restart could lose. 3 epochs of 5 steps,
2 batches each to validate."""


def write_small(folder: Path) -> Path:
    """Tables and topology of alice, bob and carol; returns the topology's path."""
    path = write_federation(folder, 2, **CHANGES)
    document = json.loads(path.read_text())
    for party in document["parties"].values():
        party["base"] = BASE
    path.write_text(json.dumps(document))
    return path


def weights(run: Path) -> dict[str, str]:
    """SHA-256 of each party's final weights."""
    files = {name: (run / name / "model.safetensors").read_bytes() for name in PARTIES}
    return {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}


def summaries(run: Path) -> dict[str, Summary]:
    """What each party has written at its end."""
    return {name: Summary.from_json((run / name / "summary.json").read_text()) for name in PARTIES}


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What must be alike in a disturbed session and in an undisturbed one."""

    weights: Mapping[str, str]
    traffic: Sequence[tuple[object, ...]]
    """Frames and bytes that each party has sent, by receiver, kind and codec. Without the bytes of
    messages: these name schemas by their place in the log, a number of one digit or two."""
    history: Sequence[Mapping[str, float]]

    @classmethod
    def of(cls, run: Path) -> Result:
        """Of a run that is over."""
        found = summaries(run)
        hashes = weights(run)
        for summary in found.values():
            assert summary.weights == hashes
        return cls(
            weights=hashes,
            traffic=[
                (each.sender, each.receiver, each.kind, each.codec, each.frames, bytes_of(each))
                for summary in found.values()
                for each in summary.traffic
            ],
            history=found["alice"].history,
        )


def bytes_of(traffic: Traffic) -> int:
    """0 for messages, see :attr:`Result.traffic`."""
    return 0 if traffic.kind == "control" else traffic.wire_bytes


def train(
    topology: Path,
    run: Path,
    faults: Mapping[str, Sequence[Fault]] | None = None,
    patience_s: float = PATIENCE_S,
) -> Result:
    """Run all parties to their end; each is started again after each of its deaths.

    Args:
        topology: the federation.
        run: the folder of the run.
        faults: by party, one for each of its processes in turn; those after the last have none.
        patience_s: how long it may take altogether.
    """
    left = {name: list((faults or {}).get(name, ())) for name in PARTIES}
    deaths = Counter(dict.fromkeys(PARTIES, 0))
    deadline = monotonic() + patience_s
    with all_ended([]) as started:

        def start(name: str) -> None:
            fault = left[name].pop(0) if left[name] else None
            started.append(ForkedParty(name, topology, run, fault=fault))

        for name in PARTIES:
            start(name)
        running = list(started)
        while running:
            ready = wait([each.sentinel for each in running], max(0.0, deadline - monotonic()))
            assert ready, f"not over after {patience_s} s:\n" + _said(running)
            for each in [each for each in running if each.sentinel in ready]:
                running.remove(each)
                status = each.end()
                if status == -signal.SIGKILL:
                    deaths[each.name] += 1
                    start(each.name)
                    running.append(started[-1])
                else:
                    assert status == 0, f"{each.name}: {status}\n{_said(started)}"
    # One place that is never reached keeps its process, and the faults after it, from dying.
    assert deaths == {name: len((faults or {}).get(name, ())) for name in PARTIES}
    return Result.of(run)


def _said(parties: Sequence[ForkedParty]) -> str:
    return "\n".join(f"--- {each.name} ({each.status}):\n{each.text}" for each in parties)


def assert_all_end(parties: Sequence[ForkedParty]) -> None:
    """Wait until parties have ended, which must be well."""
    deadline = monotonic() + PATIENCE_S
    left = list(parties)
    while left:
        ready = wait([each.sentinel for each in left], max(0.0, deadline - monotonic()))
        assert ready, f"not over after {PATIENCE_S} s:\n{_said(parties)}"
        for each in [each for each in left if each.sentinel in ready]:
            left.remove(each)
            assert each.end() == 0, f"{each.name}:\n{_said(parties)}"
