from __future__ import annotations

import shlex
from pathlib import Path

from slstream.topology import Topology
from slstream.topology.apply_command import apply_command
from tests.topology.documents import write


def test_can_be_copied_into_a_shell(tmp_path: Path) -> None:
    folder = tmp_path / "a b"
    folder.mkdir()
    path = write(folder)
    topology = Topology.load(path, ["transport=kafka://h:1?replication_factor=3", "seed=4"])
    command = apply_command(topology, ["s1"])
    assert shlex.split(command) == [
        *("slstream", "topology", "apply", str(path)),
        *("--set", "transport=kafka://h:1?replication_factor=3", "--set", "seed=4"),
        *("--session", "s1"),
    ]


def test_without_a_file(tmp_path: Path) -> None:
    document = dict(Topology.load(write(tmp_path)).document.value)
    assert apply_command(Topology.from_dict(document)) == "slstream topology apply TOPOLOGY"
