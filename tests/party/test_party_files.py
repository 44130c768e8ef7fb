"""What a party keeps: the last two checkpoints and those between epochs, each whole."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file
from torch import nn

from slstream.errors import StorageError
from slstream.party.checkpoint import Checkpoint
from slstream.party.party_files import PartyFiles, mismatch
from slstream.party.scaling import Scaling
from slstream.party.summary import finished_session
from tests.party.states import Part, at, standing, summary_of_session

SCALING = Scaling.fit(("x",), np.zeros((2, 1), dtype=np.float32), 2, "standard")
MODEL = Part(None).trained().capture()


def files(
    directory: Path, *, keep_every_epochs: int = 0, writable: bool = True, party: str = "bob"
) -> PartyFiles:
    return PartyFiles(
        directory,
        federation="small",
        party=party,
        keep_every_epochs=keep_every_epochs,
        writable=writable,
    )


def save(kept: PartyFiles, *places: tuple[int, int], session: str = "s1") -> None:
    for epochs, steps in places:
        found = at(epochs, steps, session=session)
        kept.save_checkpoint(Checkpoint(standing=found, model=MODEL))


def names(directory: Path, session: str = "s1") -> list[str]:
    return sorted(path.stem for path in (directory / "checkpoints" / session).glob("*.safetensors"))


def places(kept: PartyFiles, session: str = "s1") -> list[tuple[int, int]]:
    return [found.standing.place for found in kept.checkpoints(session)]


def test_the_newest_two_are_kept_and_come_newest_first(tmp_path: Path) -> None:
    kept = files(tmp_path)
    assert places(kept) == []
    save(kept, (0, 50), (0, 100), (1, 0), (1, 50))
    assert names(tmp_path) == ["00001-0000000", "00001-0000050"]
    assert places(kept) == [(1, 50), (1, 0)]
    save(kept, (10, 0), (10, 1000), (11, 0))
    assert places(kept) == [(11, 0), (10, 1000)]


@pytest.mark.parametrize(
    ("every", "expected"),
    [
        (1, [(1, 0), (2, 0), (3, 0), (4, 0), (4, 50)]),
        (2, [(2, 0), (4, 0), (4, 50)]),
        (3, [(3, 0), (4, 0), (4, 50)]),
        (0, [(4, 0), (4, 50)]),
    ],
)
def test_some_between_epochs_are_kept_for_good(
    tmp_path: Path, every: int, expected: list[tuple[int, int]]
) -> None:
    kept = files(tmp_path, keep_every_epochs=every)
    for epoch in range(4):
        save(kept, (epoch, 50), (epoch + 1, 0))
    save(kept, (4, 50))
    assert places(kept) == expected[::-1]


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("damage", [flip, cut, empty])
def test_the_one_before_a_damaged_one_is_found(
    tmp_path: Path, damage: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "slstream")
    kept = files(tmp_path)
    save(kept, (0, 50), (1, 0))
    newest = tmp_path / "checkpoints" / "s1" / "00001-0000000.safetensors"
    damage(newest)
    assert places(kept) == [(0, 50)]
    (record,) = caplog.records
    assert record.getMessage() == "checkpoint skipped"
    assert vars(record)["path"] == str(newest)
    save(kept, (1, 0))
    assert places(kept) == [(1, 0), (0, 50)]


def test_later_ones_that_could_not_be_used_go_and_never_push_out_a_good_one(tmp_path: Path) -> None:
    """A log may end before them; once it has grown past their offsets they would look right."""
    kept = files(tmp_path, keep_every_epochs=1)
    save(kept, (1, 0), (1, 50), (2, 0), (2, 50))
    save(kept, (1, 60))  # as after going on from (1, 0)
    assert places(kept) == [(1, 60), (1, 0)]


def test_anothers_checkpoints_are_not_this_partys(tmp_path: Path) -> None:
    save(files(tmp_path), (0, 50))
    assert places(files(tmp_path, party="carol")) == []


def test_files_that_a_killed_process_left_are_in_nobodys_way(tmp_path: Path) -> None:
    kept = files(tmp_path)
    save(kept, (0, 50), (1, 0))
    folder = tmp_path / "checkpoints" / "s1"
    for name in (
        ".00001-0000050.safetensors.1f.tmp",
        ".00000-0000050.safetensors.2a.tmp",
        "note.txt",
    ):
        (folder / name).write_bytes(b"half")
    assert places(kept) == [(1, 0), (0, 50)]
    save(kept, (1, 50), (2, 0))
    assert places(kept) == [(2, 0), (1, 50)]
    assert not (folder / ".00001-0000050.safetensors.1f.tmp").exists()


def test_other_sessions_are_left_alone(tmp_path: Path) -> None:
    kept = files(tmp_path)
    save(kept, (3, 0), (3, 50), session="s0")
    save(kept, (0, 50), (0, 100), (1, 0))
    assert places(kept, "s0") == [(3, 50), (3, 0)]
    assert places(kept) == [(1, 0), (0, 100)]


def test_the_session_that_was_written_last_is_known(tmp_path: Path) -> None:
    kept = files(tmp_path)
    assert kept.newest_session() is None
    save(kept, (0, 50), session="s2")
    save(kept, (0, 50), session="s1")
    now = 1_900_000_000
    for age, session in enumerate(("s1", "s2")):
        os.utime(tmp_path / "checkpoints" / session, (now - age, now - age))
    (tmp_path / "checkpoints" / "zz.txt").write_text("no session")
    assert kept.newest_session() == "s1"


def test_nothing_is_written_where_nothing_may_be(tmp_path: Path) -> None:
    kept = files(tmp_path / "bob", writable=False)
    save(kept, (0, 50), (0, 100), (0, 150))
    module = nn.Linear(2, 1)
    kept.save_scaling(SCALING)
    kept.save_summary(summary_of_session("s1"))
    digest = kept.save_weights({"base": module})
    assert not (tmp_path / "bob").exists()
    # It is told all the same what the file would be.
    assert files(tmp_path / "carol").save_weights({"base": module}) == digest


def test_nothing_is_removed_where_nothing_may_be(tmp_path: Path) -> None:
    save(files(tmp_path), (0, 50), (0, 100))
    save(files(tmp_path, writable=False), (0, 150), (1, 0), (0, 1))
    assert places(files(tmp_path)) == [(0, 100), (0, 50)]


def test_weights_are_a_file_with_the_digest_that_is_returned(tmp_path: Path) -> None:
    module = nn.Linear(2, 1)
    digest = files(tmp_path / "new" / "bob").save_weights({"base": module})
    path = tmp_path / "new" / "bob" / "model.safetensors"
    assert digest == hashlib.sha256(path.read_bytes()).hexdigest()
    assert set(load_file(path)) == {"base.weight", "base.bias"}


def test_a_summary_says_that_its_session_is_over(tmp_path: Path) -> None:
    kept = files(tmp_path)
    assert finished_session(kept.directory) is None
    kept.save_summary(summary_of_session("s7"))
    assert finished_session(kept.directory) == "s7"
    (tmp_path / "summary.json").write_text('{"format": 1')
    assert finished_session(kept.directory) is None


def test_a_full_disk_keeps_the_older_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = files(tmp_path)
    save(kept, (0, 50), (0, 100))

    def refuse(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as full:
        full.setattr(os, "fsync", refuse)
        with pytest.raises(StorageError, match="No space left"):
            save(kept, (1, 0))
    assert places(kept) == [(0, 100), (0, 50)]


def test_a_checkpoint_that_cannot_be_read_is_no_damaged_one(tmp_path: Path) -> None:
    """Going on from an older one would only hide that the disk fails."""
    kept = files(tmp_path)
    save(kept, (0, 50))
    (tmp_path / "checkpoints" / "s1" / "00001-0000000.safetensors").mkdir()
    with pytest.raises(StorageError, match=r"cannot read .*00001-0000000"):
        places(kept)


def test_a_folder_that_cannot_be_read_is_no_empty_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = files(tmp_path)
    save(kept, (0, 50))

    def refuse(path: Path) -> list[str]:
        raise PermissionError(13, "Permission denied", str(path))

    with monkeypatch.context() as closed:
        closed.setattr(os, "listdir", refuse)
        with pytest.raises(StorageError, match=r"cannot read .*checkpoints/s1: .*denied"):
            places(kept)
    assert places(kept) == [(0, 50)]


def test_one_that_another_process_removes_meanwhile_is_skipped(tmp_path: Path) -> None:
    kept = files(tmp_path)
    save(kept, (0, 50), (0, 100))
    found = kept.checkpoints("s1")
    assert next(found).standing.place == (0, 100)
    save(files(tmp_path), (1, 0))
    assert next(found, None) is None


def test_a_mismatch_is_named() -> None:
    found = standing(session="s1", digest="0" * 64)
    assert mismatch(found, session="s1", digest="0" * 64) is None
    assert mismatch(found, session="s2", digest="0" * 64) == "it is of session s1"
    assert mismatch(found, session="s1", digest="1" * 64) == "it was written under another topology"
