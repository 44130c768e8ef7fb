from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from slstream.errors import StorageError
from slstream.party.atomic_file import write_atomically
from slstream.party.weights import save_weights


def test_parameters_and_buffers_are_written_by_prefix(tmp_path: Path) -> None:
    base, fuse = nn.BatchNorm1d(2), nn.Linear(2, 1)
    path = tmp_path / "new" / "model.safetensors"
    digest = save_weights(path, {"fuse": fuse, "base": base}, federation="f", party="bob")
    assert digest == hashlib.sha256(path.read_bytes()).hexdigest()
    found = load_file(path)
    assert {"base.running_mean", "base.weight", "fuse.weight", "fuse.bias"} <= set(found)
    assert torch.equal(found["fuse.weight"], fuse.weight)


def test_equal_weights_give_equal_files_and_other_parties_others(tmp_path: Path) -> None:
    module = nn.Linear(2, 1)
    digests = [
        save_weights(tmp_path / str(n), {"base": module}, federation="f", party=party)
        for n, party in enumerate(("bob", "bob", "carol"))
    ]
    assert digests[0] == digests[1] != digests[2]


def test_a_failed_write_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model.safetensors"
    write_atomically(path, b"old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="No space left on device") as caught:
        write_atomically(path, b"new")
    assert str(path) in str(caught.value)
    assert path.read_bytes() == b"old"


def test_file_and_folder_reach_the_disk_before_it_returns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda d: synced.append(os.readlink(f"/proc/self/fd/{d}")))
    write_atomically(tmp_path / "model.safetensors", b"new")
    assert synced == [str(tmp_path / ".model.safetensors.tmp"), str(tmp_path)]
