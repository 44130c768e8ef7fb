"""Topology documents for tests."""

from __future__ import annotations

from pathlib import Path

VALID = """\
federation: clinic
seed: 3
parties:
  alice:
    role: label
    data: {path: alice.csv, label: sick, features: ["a*"]}
    base: {model: mlp, args: {out: 4}}
  bob:
    role: feature
    data: {path: bob.csv, id: customer}
    base: {model: mlp, args: {out: 4}}
fuse: {model: linear, args: {out: 1}}
loss: bce
training: {batch_size: 16, epochs: 2, validation: 0.25}
"""


def write(folder: Path, text: str = VALID) -> Path:
    """A topology file called ``t.yaml``."""
    path = folder / "t.yaml"
    path.write_text(text)
    return path


def edited(before: str, after: str) -> str:
    """The valid document with one piece of text replaced, which must be there."""
    if before not in VALID:
        raise ValueError(f"{before!r} is not in the valid document")
    return VALID.replace(before, after)
