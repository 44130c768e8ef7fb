"""Checkpoints are whole, and the last two are kept."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from slstream.errors import StorageError
from slstream.party.checkpoints import Checkpoints


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_the_last_two_are_kept(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / "c", federation="f", party="bob")
    module = nn.Linear(2, 1)
    for epoch in (1, 2, 3, 10):
        checkpoints.write(epoch, {"base": module})
    assert names(tmp_path / "c") == ["epoch-00003.safetensors", "epoch-00010.safetensors"]
    found = load_file(tmp_path / "c" / "epoch-00010.safetensors")
    assert torch.equal(found["base.weight"], module.weight)


def test_a_second_session_in_the_same_folder_starts_over(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, federation="f", party="bob")
    for epoch in (8, 9, 1):
        checkpoints.write(epoch, {"base": nn.Linear(1, 1)})
    # Files of later epochs are another session's; they go as this one reaches their epochs.
    assert "epoch-00001.safetensors" in names(tmp_path)


def test_a_full_disk_keeps_the_older_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoints = Checkpoints(tmp_path, federation="f", party="bob")
    checkpoints.write(1, {"base": nn.Linear(1, 1)})

    def refuse(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(StorageError, match="No space left"):
        checkpoints.write(2, {"base": nn.Linear(1, 1)})
    assert "epoch-00001.safetensors" in names(tmp_path)
    assert "epoch-00002.safetensors" not in names(tmp_path)
