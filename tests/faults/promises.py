"""What must be true of a log and its checkpoints after a fault, given what was acknowledged."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from slstream.errors import TransportError
from slstream.transport.contract import StoredRecord
from slstream.transport.embedded.transport import EmbeddedTransport
from tests.faults.workload import (
    CHUNKS,
    TOPIC,
    checkpoint_directory,
    frame_at,
    log_directory,
    records_in,
    value_of,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Promises:
    """What a victim's acknowledgements promise."""

    records: int = 0
    """So many at least are in the log."""
    checkpoint: int = 0
    """The newest checkpoint builds on at least so many records."""
    whole_frames: bool = False
    """No append is there in part: promised for the death of a process, not for a power cut."""


def after_power_cut(lines: Iterable[str], since: Promises | None = None) -> Promises:
    """Of appends, those count that were durable by themselves or that were flushed."""
    return _promises(lines, {"durable", "flushed"}, since or Promises())


def after_death(lines: Iterable[str]) -> Promises:
    """Every append counts."""
    return _promises(lines, {"visible", "durable", "flushed"}, Promises(whole_frames=True))


def _promises(lines: Iterable[str], kinds: set[str], since: Promises) -> Promises:
    records, checkpoint = since.records, since.checkpoint
    for line in lines:
        kind, detail = line.split()
        if kind in kinds:
            records = max(records, int(detail))
        elif kind == "checkpoint":
            checkpoint = max(checkpoint, int(detail))
    return Promises(records=records, checkpoint=checkpoint, whole_frames=since.whole_frames)


class Breach(StrEnum):
    """How a promise can be broken."""

    UNREADABLE = "the log cannot be opened, read or appended to"
    WRONG_RECORD = "a record is not what was appended at its offset"
    LOST_RECORD = "an acknowledged record is lost"
    TORN_FRAME = "an append is there in part"
    TORN_CHECKPOINT = "a checkpoint is not whole"
    LOST_CHECKPOINT = "an acknowledged checkpoint is lost"
    AHEAD = "a checkpoint is ahead of its log"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    breach: Breach
    detail: str


async def findings(root: Path, promises: Promises) -> list[Finding]:
    """What is wrong below ``root``, where the victim worked, or in an image of it.

    The log is opened as a party would open it, and appended to.
    """
    try:
        records = await _go_on(root)
    except (TransportError, _WrongOffsetError) as error:
        return [Finding(breach=Breach.UNREADABLE, detail=f"{type(error).__name__}: {error}")]
    return [*_of_log(records, promises), *_of_checkpoints(root, promises, len(records))]


class _WrongOffsetError(Exception):
    """An append did not land at the end."""


async def _go_on(root: Path) -> Sequence[StoredRecord]:
    async with await EmbeddedTransport.open(log_directory(root)) as log:
        await log.create_topic(TOPIC)
        records = await log.read(TOPIC, 0)
        at = await log.append(TOPIC, frame_at(len(records)))
        if at != len(records):
            raise _WrongOffsetError(f"appended to {len(records)} records, at offset {at}")
        return records


def _of_log(records: Sequence[StoredRecord], promises: Promises) -> list[Finding]:
    found = [
        Finding(breach=Breach.WRONG_RECORD, detail=f"at {offset}: offset {record.offset}")
        for offset, record in enumerate(records)
        if (record.offset, record.value) != (offset, value_of(offset))
        or (record.key, record.headers) != (b"alice", (("step", f"0/{offset}".encode()),))
    ]
    if len(records) < promises.records:
        detail = f"{len(records)} records, {promises.records} were acknowledged"
        found.append(Finding(breach=Breach.LOST_RECORD, detail=detail))
    if promises.whole_frames and len(records) % CHUNKS:
        found.append(Finding(breach=Breach.TORN_FRAME, detail=f"{len(records)} records"))
    return found


def _of_checkpoints(root: Path, promises: Promises, records: int) -> list[Finding]:
    found = []
    newest = 0
    for path in sorted(checkpoint_directory(root).glob("[!.]*")):
        needed = records_in(path.read_bytes())
        if needed is None:
            found.append(Finding(breach=Breach.TORN_CHECKPOINT, detail=path.name))
            continue
        newest = max(newest, needed)
        if needed > records:
            detail = f"{path.name} builds on {needed} records of {records}"
            found.append(Finding(breach=Breach.AHEAD, detail=detail))
    if newest < promises.checkpoint:
        detail = f"the newest builds on {newest} records, one on {promises.checkpoint} was written"
        found.append(Finding(breach=Breach.LOST_CHECKPOINT, detail=detail))
    return found
