from __future__ import annotations

from pathlib import Path

import pytest

from slstream.transport.embedded import folders
from slstream.transport.embedded.folders import create_folder


def test_each_folder_is_on_the_disk_before_the_next_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[tuple[Path, bool]] = []
    deepest = tmp_path / "a" / "b" / "c"

    def sync(path: Path) -> None:
        synced.append((path, deepest.exists()))

    monkeypatch.setattr(folders, "sync_file", sync)
    create_folder(deepest)
    assert synced == [
        (tmp_path.parent, False),  # Who made the last one may have died before this.
        (tmp_path, False),
        (tmp_path / "a", False),
        (tmp_path / "a" / "b", True),
    ]
    synced.clear()
    create_folder(deepest)
    assert synced == [(tmp_path / "a" / "b", True)]


def test_a_file_in_the_way_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("")
    with pytest.raises(FileExistsError):
        create_folder(tmp_path / "a")
    with pytest.raises(FileExistsError):
        create_folder(tmp_path / "a" / "b")
