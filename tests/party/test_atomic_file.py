from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import pytest

from slstream.errors import StorageError
from slstream.party.atomic_file import write_atomically

LEFT = ".scaling.json.0123abcd.tmp"


def at_fsync_of_temporary(monkeypatch: pytest.MonkeyPatch, act: Callable[[int], None]) -> None:
    real = os.fsync

    def fsync(descriptor: int) -> None:
        if os.readlink(f"/proc/self/fd/{descriptor}").endswith(".tmp"):
            act(descriptor)
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)


@pytest.mark.parametrize(
    ("raised", "seen"),
    [(OSError(28, "No space left on device"), StorageError), (KeyboardInterrupt(), None)],
)
def test_a_failed_write_leaves_what_was_there(
    raised: BaseException,
    seen: type[Exception] | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = tmp_path / "model.safetensors"
    write_atomically(path, b"old")

    def full(_: int) -> None:
        raise raised

    at_fsync_of_temporary(monkeypatch, full)
    with pytest.raises(seen or type(raised)) as caught:
        write_atomically(path, b"new")
    if seen is not None:
        assert f"cannot write {path}: [Errno 28] No space left" in str(caught.value)
    assert path.read_bytes() == b"old"
    assert [each.name for each in tmp_path.iterdir()] == [path.name], "the disk is full as it is"


def test_file_and_folder_reach_the_disk_before_it_returns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model.safetensors"
    synced: list[tuple[str, int, bool]] = []

    def fsync(descriptor: int) -> None:
        name = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        synced.append((name.suffix or name.name, os.fstat(descriptor).st_size, path.exists()))

    monkeypatch.setattr(os, "fsync", fsync)
    write_atomically(path, b"new")
    (temporary, size, replaced), (folder, _, replaced_then) = synced[-2:]
    assert (temporary, size, replaced) == (".tmp", 3, False)
    assert (folder, replaced_then) == (tmp_path.name, True)


def test_what_a_killed_process_left_behind_is_in_nobodys_way(tmp_path: Path) -> None:
    path = tmp_path / "new" / "scaling[1].json"
    path.parent.mkdir()
    (path.parent / ".scaling[1].json.0123abcd.tmp").write_bytes(b"half of something longer")
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_other_files_are_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "scaling.json"
    others = [".scaling.json.mine.tmp", ".scaling.json.tmp", "scaling.json.0123abcd.tmp"]
    for name in others:
        (tmp_path / name).write_bytes(b"mine")
    (tmp_path / LEFT).mkdir()
    write_atomically(path, b"new")
    assert {each.name for each in tmp_path.iterdir()} == {path.name, LEFT, *others}


def test_what_another_process_writes_just_now_is_not_removed(tmp_path: Path) -> None:
    """Whatever its number is: in another container it may be this process's own."""
    path, other = tmp_path / "scaling.json", tmp_path / LEFT
    holding = (
        "import fcntl, sys, time; file = open(sys.argv[1], 'wb'); fcntl.flock(file, fcntl.LOCK_EX);"
        "print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", holding, str(other)], stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        write_atomically(path, b"new")
        assert other.exists()
        process.send_signal(signal.SIGKILL)
        process.wait()
    write_atomically(path, b"newer")
    assert not other.exists()


def test_one_that_is_removed_before_it_is_locked_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = fcntl.flock
    names: list[str] = []

    def flock(file: BinaryIO, how: int) -> None:
        if not names:
            Path(file.name).unlink()
        names.append(file.name)
        real(file, how)

    monkeypatch.setattr(fcntl, "flock", flock)
    write_atomically(tmp_path / "scaling.json", b"new")
    assert len(set(names)) == 2
    assert (tmp_path / "scaling.json").read_bytes() == b"new"


def test_two_processes_may_write_at_once(tmp_path: Path) -> None:
    """Each reads what it or the other has written, whole, and neither fails."""
    path = tmp_path / "scaling.json"
    writing = (
        "import sys; from pathlib import Path; from slstream.party.atomic_file import *\n"
        "path, mine = Path(sys.argv[1]), sys.argv[2].encode() * 100_000\n"
        "for _ in range(200):\n"
        "    write_atomically(path, mine); assert len(set(path.read_bytes())) == 1\n"
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", writing, str(path), sign]) for sign in "ab"
    ]
    assert [each.wait() for each in processes] == [0, 0]
    assert [each.name for each in tmp_path.iterdir()] == [path.name]
