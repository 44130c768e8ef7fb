"""Links folded from records made by hand."""

from __future__ import annotations

from collections.abc import Sequence

from slstream.frames.link import FrameRecord
from slstream.frames.topics import LinkName
from slstream.soak.training_frames import TrainingFolder, TrainingFrames
from slstream.transport.contract import StoredRecord


def fold(
    records: Sequence[FrameRecord], sender: str = "bob", receiver: str = "alice"
) -> TrainingFrames:
    folder = TrainingFolder(
        LinkName(federation="credit", sender=sender, receiver=receiver, session="s")
    )
    for offset, record in enumerate(records):
        folder.push(stored(record.value, offset))
    return folder.result


def stored(value: bytes, offset: int = 0) -> StoredRecord:
    return StoredRecord(
        topic="t", partition=0, offset=offset, timestamp_ms=0, value=value, key=None, headers=()
    )
