"""What the victim appends and checkpoints: content that proves itself, known to the checker too."""

from __future__ import annotations

import hashlib
from pathlib import Path

from slstream.transport.contract import Record

TOPIC = "fed.alice-to-bob.s1"
CHUNKS = 2
"""Records of one ``append`` call: after the death of the process all are there or none."""
SLOTS = 2
"""Checkpoints lie in this many files by turns, so that the later ones replace earlier ones."""

_RECORD_BYTES = (120, 5000, 700, 9000)
_CHECKPOINT_BYTES = 20_000


def log_directory(root: Path) -> Path:
    """Below directories that the first run has to create, as a run's log does."""
    return root / "runs" / "small" / "log"


def checkpoint_directory(root: Path) -> Path:
    return root / "runs" / "small" / "bob" / "checkpoints"


def checkpoint_path(root: Path, number: int) -> Path:
    return checkpoint_directory(root) / f"{number % SLOTS:05}.checkpoint"


def value_of(offset: int) -> bytes:
    """The value of the record at an offset."""
    seed = hashlib.sha256(str(offset).encode()).digest()
    return _stretch(f"{offset} ".encode() + seed, _RECORD_BYTES[offset % len(_RECORD_BYTES)])


def frame_at(offset: int) -> list[Record]:
    """The records of the append that starts at an offset."""
    return [
        Record(value=value_of(each), key=b"alice", headers=(("step", f"0/{each}".encode()),))
        for each in range(offset, offset + CHUNKS)
    ]


def checkpoint_of(records: int) -> bytes:
    """A checkpoint that builds on the first ``records`` records."""
    body = _stretch(f"{records} ".encode(), _CHECKPOINT_BYTES)
    return hashlib.sha256(body).digest() + body


def records_in(checkpoint: bytes) -> int | None:
    """How many records a checkpoint builds on; ``None`` when it is not whole."""
    digest, body = checkpoint[:32], checkpoint[32:]
    if hashlib.sha256(body).digest() != digest:
        return None
    return int(body.split(b" ", 1)[0])


def _stretch(seed: bytes, length: int) -> bytes:
    return (seed * (length // len(seed) + 1))[:length]
