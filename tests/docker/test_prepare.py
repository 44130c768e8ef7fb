"""What the demo's containers get to see is made by a script, which is run here as they run it."""

from __future__ import annotations

import csv
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

import pytest

from slstream.party.bundled import load_bundled
from slstream.topology import Topology
from tests.docker.compose_file import FOLDER, services
from tests.source_tree import ROOT

PARTIES = {"alice", "bob", "carol"}


def prepare(root: Path) -> dict[str, bytes]:
    """Run it; the files it has made, by path."""
    subprocess.run([sys.executable, str(FOLDER / "prepare.py"), str(root)], check=True)
    return {
        str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()
    }


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("private")


@pytest.fixture(scope="module")
def files(root: Path) -> dict[str, bytes]:
    return prepare(root)


def test_every_folder_is_a_volume_of_its_own(files: dict[str, bytes]) -> None:
    folders = {name.partition("/")[0] for name in files}
    mounts = services()["prepare"].mounts
    mounted = {m.target: m.source for m in mounts if m.is_volume}
    assert mounted == {f"/private/{folder}": f"{folder}-private" for folder in folders}


def test_a_party_gets_its_own_columns_only(files: dict[str, bytes]) -> None:
    columns = load_bundled("breast_cancer").columns
    for party in Topology.load(ROOT / "topology" / "breast-cancer.yaml").parties:
        header, *rows = csv.reader(files[f"{party.id}/table.csv"].decode().splitlines())
        patterns = [*(party.data.features or ()), party.data.label or "", "id"]
        assert set(header) == {c for c in columns if any(fnmatch(c, p) for p in patterns)}
        assert len(rows) == 569


def test_everybody_gets_a_password_of_its_own(files: dict[str, bytes]) -> None:
    """Which the broker knows too."""
    own = {party: files[f"{party}/kafka.password"] for party in PARTIES}
    own["admin"] = files["operator/kafka.password"]
    assert len(set(own.values())) == 4
    assert all(len(password) >= 32 for password in own.values())
    broker = {
        name.partition("/")[2]: content
        for name, content in files.items()
        if name.startswith("broker/")
    }
    assert broker == {f"{user}.password": password for user, password in own.items()}


def test_the_parties_share_the_key_of_the_ids_and_nobody_else_has_it(
    files: dict[str, bytes],
) -> None:
    keys = {name: content for name, content in files.items() if name.endswith("ids.key")}
    assert set(keys) == {f"{party}/ids.key" for party in PARTIES}
    assert len(set(keys.values())) == 1
    assert sum(keys["bob/ids.key"] in content for content in files.values()) == len(PARTIES)


def test_only_the_owner_may_read(root: Path, files: dict[str, bytes]) -> None:
    assert {(root / name).stat().st_mode & 0o777 for name in files} == {0o600}


def test_a_second_time_changes_nothing(root: Path, files: dict[str, bytes]) -> None:
    """The broker was set up with these passwords."""
    assert prepare(root) == files


def test_what_was_missing_is_added(root: Path, files: dict[str, bytes]) -> None:
    """It was killed between two files."""
    (root / "carol" / "ids.key").unlink()
    (root / "operator" / "kafka.password").unlink()
    assert prepare(root) == files
