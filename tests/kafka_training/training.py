"""A training over Kafka with real processes, small enough to be disturbed in many ways."""

from __future__ import annotations

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from pathlib import Path
from time import monotonic
from typing import Any

from slstream.party.summary import Summary
from tests.integration.faults import Fault
from tests.integration.forked_party import ForkedParty, all_ended
from tests.kafka.login import Login
from tests.kafka_training.watcher import Watcher
from tests.party.small_session import document, write_tables

PARTIES = ("alice", "bob")
FEDERATION = "small"
EPOCHS, EPOCH_STEPS = 24, 10
ROWS = 134
"""100 of them to train with, and 34 to validate."""

CUT = 512
"""Of bob's base model. An activation has 20 kB, more than all that is not one."""

PATIENCE_S = 150.0

GROWTH_MIB = 48.0
"""By which a party's memory may grow while a broker fails it; read-ahead alone may take 8 MiB."""

_logger = logging.getLogger(__name__)

CONFIGURATION: dict[str, Any] = {
    "optimizer": {"name": "adam", "lr": 0.003},
    "training": {"batch_size": 10, "epochs": EPOCHS, "validation": 0.25},
    "checkpoints": {"every_steps": 4},
    "timeouts": {"peer_s": 120},
    "fuse": {"model": "mlp", "args": {"hidden": [8], "dropout": 0.2, "out": 1}},
    # Forward exact and large; backward rounded at random.
    "codec": {"forward": "raw32", "evaluation": "raw32"},
}
"""Dropout, Adam, and a codec that rounds at random: all that a disturbance could spoil."""


def write_training(folder: Path, transport: str | None = None, **changes: Any) -> Path:
    """Tables and topology of alice and bob; its path.

    Args:
        folder: where to.
        transport: the log's URL; by default the embedded one.
        changes: of sections.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_tables(folder, PARTIES[1:], common=ROWS)
    found = document(1, **CONFIGURATION | changes)
    for name, out in (("alice", 4), ("bob", CUT)):
        base = {"hidden": [8], "dropout": 0.2, "out": out, "out_activation": "relu"}
        found["parties"][name]["base"] = {"model": "mlp", "args": base}
    if transport is not None:
        found["transport"] = transport
    path = folder / "small.yaml"
    path.write_text(json.dumps(found))
    return path


@dataclass(frozen=True, slots=True, kw_only=True)
class Learned:
    """What must be alike, whatever happens meanwhile."""

    weights: Mapping[str, str]
    """SHA-256 of each party's final weights."""
    history: list[Mapping[str, float]]
    frames: Mapping[tuple[str, str, str], int]
    """How many each party sent, by sender, receiver and kind."""

    @classmethod
    def of(cls, run: Path) -> Learned:
        """Of a training that is over."""
        weights, history = {}, list[Mapping[str, float]]()
        frames: Counter[tuple[str, str, str]] = Counter()
        for name in PARTIES:
            weights[name] = hashlib.sha256((run / name / "model.safetensors").read_bytes())
            summary = Summary.from_json((run / name / "summary.json").read_text())
            history = history or list(summary.history)
            for each in summary.traffic:
                frames[each.sender, each.receiver, each.kind] += each.frames
        return cls(
            weights={name: each.hexdigest() for name, each in weights.items()},
            history=history,
            frames=frames,
        )


@dataclass(kw_only=True)
class Training:
    """The parties of one session, and a look at its log."""

    topology: Path
    run: Path
    watcher: Watcher
    environment: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """By party."""
    disabled: Fault | None = None
    """A mechanism that all parties lack, for a negative control."""
    started: list[ForkedParty] = field(default_factory=list)
    """All processes so far."""

    def start(self, *names: str, fault: Fault | None = None) -> None:
        """Start parties, by default both.

        Args:
            names: whom.
            fault: what these processes suffer, beside what all lack.
        """
        for name in names or PARTIES:
            self.started.append(
                ForkedParty(
                    name,
                    self.topology,
                    self.run,
                    fault=fault or self.disabled,
                    environment=self.environment.get(name),
                )
            )

    def party(self, name: str) -> ForkedParty:
        """The newest process of a party."""
        return [each for each in self.started if each.name == name][-1]

    @property
    def is_training(self) -> bool:
        """Whether both parties run."""
        return all(self.party(name).status is None for name in PARTIES)

    def reach(self, step: int) -> None:
        """Wait until bob's activation of a step, counted from 1 over all epochs, is in the log."""
        self.watcher.wait_for(place_of(step), self._check)

    def finish(self, patience_s: float = PATIENCE_S) -> Learned:
        """Wait until both have ended, which must be well, and see that the log has no more."""
        ends = self.ends(patience_s)
        assert ends == dict.fromkeys(PARTIES, 0), self.said()
        learned = Learned.of(self.run)
        for sender, receiver in (PARTIES, PARTIES[::-1]):
            sent = sum(n for (s, r, _), n in learned.frames.items() if (s, r) == (sender, receiver))
            seen = self.watcher.link(sender, receiver)
            # Besides frames the log has one record for each process that began to send.
            assert (seen.frames, seen.duplicates - seen.fences) == (sent, 0), seen
        return learned

    def ends(self, patience_s: float) -> dict[str, int]:
        """Wait for both; their exit statuses."""
        deadline = monotonic() + patience_s
        newest = [self.party(name) for name in PARTIES]
        while left := [each for each in newest if each.status is None]:
            ready = wait([each.sentinel for each in left], max(0.0, deadline - monotonic()))
            assert ready, f"not over after {patience_s} s:\n{self.said()}"
            self._check()
        return {each.name: each.end() for each in newest}

    def said(self) -> str:
        """What all processes have said."""
        return "\n".join(f"--- {e.name} ({e.status}):\n{e.text[-4000:]}" for e in self.started)

    def first_to_end(self, patience_s: float) -> str:
        """Wait until a party ends; which."""
        newest = [self.party(name) for name in PARTIES]
        ended = wait([each.sentinel for each in newest], patience_s)
        assert ended, f"nobody has ended within {patience_s} s:\n{self.said()}"
        return next(each.name for each in newest if each.sentinel in ended)

    def end_of(self, name: str, patience_s: float) -> str:
        """The error with which a party ends, which it must within a time."""
        began, party = monotonic(), self.party(name)
        assert party.end(patience_s) == 1, self.said()
        measured(f"{name} ended {monotonic() - began:.1f} s later: {self.error(name)}")
        return self.error(name)

    def error(self, name: str) -> str:
        """With what the newest process of a party ended."""
        _, found, text = self.party(name).text.rpartition("\nerror: ")
        assert found, self.said()
        return text

    def _check(self) -> None:
        for name in PARTIES:
            assert self.party(name).status in (None, 0), self.said()


def place_of(step: int) -> str:
    """A step, counted from 1 over all epochs, as ``epoch/step``."""
    epoch, number = divmod(step - 1, EPOCH_STEPS)
    return f"{epoch + 1}/{number + 1}"


@contextmanager
def training(
    folder: Path,
    login: Login,
    *,
    transport: str | None = None,
    environment: Mapping[str, Mapping[str, str]] | None = None,
    disabled: Fault | None = None,
    **changes: Any,
) -> Iterator[Training]:
    """A training that is not started yet; its processes are killed at the end.

    Args:
        folder: for tables, topology and run.
        login: how the log is watched.
        transport: what the topology says; by default the URL of ``login``.
        environment: how each party logs in.
        disabled: a mechanism that all processes lack.
        changes: of the topology.
    """
    topology = write_training(folder, transport or login.url, **changes)
    made = Training(
        topology=topology,
        run=folder / "run",
        watcher=Watcher(login, FEDERATION),
        environment=environment or {},
        disabled=disabled,
    )
    with all_ended(made.started):
        yield made


def measured(text: str) -> None:
    """Say what was found; see ``pytest -o log_cli=true --log-cli-level=INFO``."""
    _logger.info(text)


@dataclass(frozen=True, slots=True)
class Memory:
    """What living processes have resident, and the most that they have had, in MiB."""

    by_party: Mapping[str, tuple[float, float]]

    @classmethod
    def of(cls, made: Training, *names: str) -> Memory:
        """Now, by default of both parties."""
        return cls({name: _resident_mib(made.party(name)) for name in names or PARTIES})

    def growth(self, made: Training) -> dict[str, float]:
        """Since then. A peak counts, and so does what fits below an older peak."""
        now = Memory.of(made, *self.by_party).by_party
        return {
            name: max(after - before for after, before in zip(now[name], then, strict=True))
            for name, then in self.by_party.items()
        }


def _resident_mib(party: ForkedParty) -> tuple[float, float]:
    path = Path(f"/proc/{party.pid}/status")
    status = path.read_text() if path.exists() else ""
    found = dict(line.split(":", 1) for line in status.splitlines())
    assert "VmRSS" in found, f"{party.name} has ended: {party.text}"
    resident, most = (int(found[name].split()[0]) / 1024 for name in ("VmRSS", "VmHWM"))
    return resident, most
