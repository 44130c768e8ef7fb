"""A federation, read from its file and checked."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple, Self

from pydantic import JsonValue, ValidationError

from slstream.errors import TopologyError
from slstream.topology.checks import loss_metrics
from slstream.topology.document import Document, KeyPath, Problem, read_document
from slstream.topology.nearest import hint
from slstream.topology.overrides import apply_overrides
from slstream.topology.sections import (
    AlignmentSpec,
    BaseSpec,
    CheckpointSection,
    CodecSection,
    DataSource,
    FederationFile,
    FuseSpec,
    OptimizerSpec,
    Role,
    ScheduleSection,
    Timeouts,
    Training,
)
from slstream.topology.validation import validate

_SHOWN = 5
"""Differences that a message tells."""

_LOCAL_KEYS = ("transport", "durability", "timeouts", "threads", "checkpoints", "modules")
"""Facts of one party's machine, on which the others need not agree."""


_UNUSED: tuple[tuple[str, str, JsonValue], ...] = (
    ("codec", "rules", []),
    ("codec", "defaults", 1),
    ("codec", "choice", "fixed"),
    ("codec", "budget", {"max_metric_loss": None, "floor_db": None}),
    ("training", "micro_batch_size", None),
)
"""Keys that the first sessions did not have, and what they had in their place."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Party:
    """One organisation of a federation."""

    id: str
    role: Role
    data: DataSource
    base: BaseSpec | None
    device: str
    """``cpu``, ``cuda`` or ``cuda:N``."""

    @property
    def feature_patterns(self) -> tuple[str, ...]:
        """Names and globs of its feature columns; empty without a base model."""
        if self.base is None:
            return ()
        return ("*",) if self.data.features is None else self.data.features


class Difference(NamedTuple):
    """A key on which two parties' topologies do not agree."""

    path: str
    mine: str
    """JSON, or ``(nothing)``."""
    theirs: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Topology:
    """A federation: the parties and what they agreed on.

    Immutable. Everything in it was checked, except what needs data, models or codecs.
    """

    document: Document
    """What was read, for messages that name a line."""
    file: FederationFile
    """The sections as they stand in the file, with defaults filled in."""
    path: Path | None
    """The file; ``None`` for a topology that was built in Python."""
    root: Path
    """Absolute: what paths in the file are relative to."""
    overrides: tuple[str, ...]
    """``key.path=value`` of each change that was made to the file."""
    parties: tuple[Party, ...]
    """Sorted by id: the order of every sum and concatenation."""

    @classmethod
    def load(cls, path: str | Path, overrides: Sequence[str] = ()) -> Self:
        """Read and check a topology file.

        Args:
            path: a YAML file.
            overrides: ``key.path=value`` each, applied before the checks.

        Raises:
            TopologyError: lists every problem with file, line, key, expected and found.
        """
        path = Path(path)
        document = apply_overrides(read_document(path), overrides)
        return cls._build(document, path, path.parent, tuple(overrides))

    @classmethod
    def from_dict(cls, value: Mapping[str, object], root: str | Path = ".") -> Self:
        """Check a topology that was written in Python, with the keys of the file.

        Args:
            value: nested dicts, lists, text and numbers.
            root: folder to which paths and modules are relative.

        Raises:
            TopologyError: lists every problem.
        """
        document = Document(value=dict(value), source="topology", places={})
        return cls._build(document, None, Path(root))

    @classmethod
    def _build(
        cls,
        document: Document,
        path: Path | None,
        root: Path,
        overrides: tuple[str, ...] = (),
    ) -> Self:
        file = validate(document)
        parties = tuple(
            Party(
                id=name,
                role=section.role,
                data=section.data,
                base=section.base,
                device=section.device,
            )
            for name, section in sorted(file.parties.items())
        )
        return cls(
            document=document,
            file=file,
            path=path,
            root=root.resolve(),
            overrides=overrides,
            parties=parties,
        )

    @property
    def federation(self) -> str:
        """Name of the federation; the first part of every topic."""
        return self.file.federation

    @property
    def seed(self) -> int:
        """The session's seed, 0 to 2**63 - 1."""
        return self.file.seed

    @property
    def fuse(self) -> FuseSpec:
        """The model above the cut."""
        return self.file.fuse

    @property
    def loss(self) -> str:
        """``bce``, ``cross_entropy``, ``mse`` or ``module:Class``."""
        return self.file.loss

    @property
    def metrics(self) -> tuple[str, ...]:
        """Validation metrics of the loss; the first is the one to report."""
        return loss_metrics(self.file.loss)

    @property
    def optimizer(self) -> OptimizerSpec:
        """The optimiser of every party."""
        return self.file.optimizer

    @property
    def training(self) -> Training:
        """Batch size, epochs, validation and early stop."""
        return self.file.training

    @property
    def alignment(self) -> AlignmentSpec:
        """How the common rows are found."""
        return self.file.alignment

    @property
    def schedule(self) -> ScheduleSection:
        """In which order activations and gradients cross."""
        return self.file.schedule

    @property
    def codec(self) -> CodecSection:
        """Codec chains as configs; ``None`` for the default."""
        return self.file.codec

    @property
    def transport(self) -> str | None:
        """URL, or ``None`` for the log in the run's folder."""
        return self.file.transport

    @property
    def durability(self) -> str:
        """``checkpoint`` or ``step``."""
        return self.file.durability

    @property
    def timeouts(self) -> Timeouts:
        """How long to wait."""
        return self.file.timeouts

    @property
    def checkpoints(self) -> CheckpointSection:
        """How often a party keeps its state."""
        return self.file.checkpoints

    @property
    def threads(self) -> int:
        """Compute threads of this party."""
        return self.file.threads

    @property
    def label_party(self) -> Party:
        """The party that holds the labels."""
        return next(party for party in self.parties if party.role is Role.LABEL)

    @property
    def feature_parties(self) -> tuple[Party, ...]:
        """The others, sorted by id."""
        return tuple(party for party in self.parties if party.role is Role.FEATURE)

    def party(self, name: str) -> Party:
        """The party of this name.

        Raises:
            TopologyError: no such party; names the nearest.
        """
        for party in self.parties:
            if party.id == name:
                return party
        near = hint(name, [party.id for party in self.parties])
        raise TopologyError(f'{self.where("parties")}: unknown party "{name}"{near}')

    def data_path(self, party: Party) -> Path | None:
        """Absolute path of a party's file; ``None`` for bundled data."""
        if party.data.path is None:
            return None
        return Path(os.path.normpath(self.root / party.data.path))

    @property
    def modules(self) -> Path:
        """Absolute path of the folder of the user's modules."""
        return Path(os.path.normpath(self.root / self.file.modules))

    def where(self, *path: str | int) -> str:
        """``FILE:LINE: key.path`` of a key, for messages."""
        return self.document.where(path)

    def error(self, *path: str | int, text: str) -> TopologyError:
        """An error about one key."""
        return self.document.error([Problem(path=path, text=text)])

    def agreed(self) -> dict[str, JsonValue]:
        """All that the parties must agree on, as JSON: everything but local facts.

        Local are the places of data and key file, devices, transport, durability, timeouts, threads
        and checkpoints. Defaults are filled in, so a file that writes them out agrees with one that
        does not; but keys that the first sessions did not have are left out while they say nothing,
        so that those sessions' digests stay as they are.
        """
        value: dict[str, JsonValue] = self.file.model_dump(mode="json", exclude=set(_LOCAL_KEYS))
        return _without_unused(_without_places(value))

    def as_recorded(self, agreed: Mapping[str, object]) -> Self:
        """With the default codecs of a recorded session, unless the file says which.

        Args:
            agreed: the session's :meth:`agreed`, of this release or of an older one.
        """
        recorded = agreed.get("codec")
        if "defaults" in self.codec.model_fields_set or not isinstance(recorded, Mapping):
            return self
        try:
            known = CodecSection.model_validate({"defaults": recorded.get("defaults", 1)})
        except ValidationError:
            return self  # a comparison of the two says what is wrong
        codec = self.codec.model_copy(update={"defaults": known.defaults})
        return replace(self, file=self.file.model_copy(update={"codec": codec}))

    def digest(self) -> str:
        """SHA-256, hex, of the canonical JSON of :meth:`agreed`."""
        text = json.dumps(self.agreed(), sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()

    def differences(self, other_agreed: Mapping[str, object]) -> tuple[Difference, ...]:
        """Where another party's :meth:`agreed` differs from this one's, sorted by path."""
        return tuple(_differences((), self.agreed(), other_agreed))

    def differences_in_words(
        self, other_agreed: Mapping[str, object], *, there: str = "there"
    ) -> str:
        """The first few of :meth:`differences`, for messages; empty when there are none.

        Args:
            other_agreed: another party's :meth:`agreed`.
            there: where that is.
        """
        found = self.differences(other_agreed)
        shown = "; ".join(f"{d.path} is {d.mine} here, {d.theirs} {there}" for d in found[:_SHOWN])
        return f"{shown} and {len(found) - _SHOWN} more" if len(found) > _SHOWN else shown


def _without_places(value: dict[str, JsonValue]) -> dict[str, JsonValue]:
    alignment, parties = value["alignment"], value["parties"]
    if isinstance(alignment, dict):
        del alignment["key_file"]
    for party in parties.values() if isinstance(parties, dict) else ():
        if isinstance(party, dict) and isinstance(data := party["data"], dict):
            del data["path"], data["bundled"], party["device"]
    return value


def _without_unused(value: dict[str, JsonValue]) -> dict[str, JsonValue]:
    codec, parties = value["codec"], value["parties"]
    rules = codec["rules"] if isinstance(codec, dict) else []
    for rule in rules if isinstance(rules, list) else ():
        _drop(rule, "tensor", None)
    for party in parties.values() if isinstance(parties, dict) else ():
        _drop(party["base"] if isinstance(party, dict) else None, "tensors", [])
    for section, key, unused in _UNUSED:
        _drop(value[section], key, unused)
    return value


def _drop(section: JsonValue, key: str, unused: JsonValue) -> None:
    if isinstance(section, dict) and section[key] == unused:
        del section[key]


_NOTHING = object()


def _differences(path: KeyPath, mine: object, theirs: object) -> list[Difference]:
    if isinstance(mine, Mapping) and isinstance(theirs, Mapping):
        return [
            difference
            for key in sorted({*mine, *theirs})
            for difference in _differences(
                (*path, key), mine.get(key, _NOTHING), theirs.get(key, _NOTHING)
            )
        ]
    if mine == theirs and type(mine) is type(theirs):
        return []
    return [Difference(".".join(map(str, path)), _json(mine), _json(theirs))]


def _json(value: object) -> str:
    return "(nothing)" if value is _NOTHING else json.dumps(value)
