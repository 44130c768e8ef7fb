from __future__ import annotations

import os
from pathlib import Path

import pytest

from slstream.errors import StorageError
from slstream.party.atomic_file import write_atomically


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
    assert synced[-2:] == [str(tmp_path / ".model.safetensors.tmp"), str(tmp_path)]


def test_what_a_killed_process_left_behind_is_in_nobodys_way(tmp_path: Path) -> None:
    path = tmp_path / "new" / "scaling.json"
    path.parent.mkdir()
    (path.parent / ".scaling.json.tmp").write_bytes(b"half of something longer than the new file")
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"
    assert [each.name for each in path.parent.iterdir()] == ["scaling.json"]
