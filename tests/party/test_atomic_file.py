from __future__ import annotations

import os
import subprocess
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
    assert [each.name for each in tmp_path.iterdir()] == [path.name], "the disk is full as it is"


def test_file_and_folder_reach_the_disk_before_it_returns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda d: synced.append(os.readlink(f"/proc/self/fd/{d}")))
    write_atomically(tmp_path / "model.safetensors", b"new")
    temporary = tmp_path / f".model.safetensors.{os.getpid()}.tmp"
    assert synced[-2:] == [str(temporary), str(tmp_path)]


def test_what_a_killed_process_left_behind_is_in_nobodys_way(tmp_path: Path) -> None:
    path = tmp_path / "new" / "scaling.json"
    path.parent.mkdir()
    ended = subprocess.Popen(["true"])
    ended.wait()
    mine, theirs = path.parent / ".scaling.json.tmp", path.parent / f".scaling.json.{ended.pid}.tmp"
    for each in (mine, theirs):
        each.write_bytes(b"half of something longer than the new file")
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"
    assert [each.name for each in path.parent.iterdir()] == ["scaling.json"]


def test_two_processes_may_write_at_once(tmp_path: Path) -> None:
    path = tmp_path / "scaling.json"
    other = tmp_path / f".scaling.json.{os.getppid()}.tmp"
    other.write_bytes(b"half")
    write_atomically(path, b"new")
    assert other.read_bytes() == b"half"
    other.replace(path)
