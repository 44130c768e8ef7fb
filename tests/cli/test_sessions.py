"""The real program, with real parties as processes of their own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.source_tree import ROOT

# Each starts several processes that import torch, on machines that may be busy.
pytestmark = pytest.mark.timeout(240)

TOPOLOGY = ROOT / "topology" / "breast-cancer.yaml"


def start(*arguments: str | Path) -> subprocess.Popen[str]:
    """Start the program as the leader of a process group, as a shell does."""
    return subprocess.Popen(
        [sys.executable, "-m", "slstream", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        start_new_session=True,
        env={**os.environ, "SLSTREAM_DEBUG": ""},
    )


@pytest.mark.long  # The tutorial (tests/test_readme.py) runs it with fewer parties.
def test_run_leaves_the_files_that_scripts_rely_on(tmp_path: Path) -> None:
    program = start("run", TOPOLOGY, "--dir", tmp_path, "--set", "training.epochs=2", "--json")
    out, err = program.communicate()
    assert program.returncode == 0, err
    summary = json.loads(out)
    assert summary == json.loads((tmp_path / "summary.json").read_text())
    assert summary["outcome"] == "finished"
    assert summary["epochs"] == 2
    assert {"auc", "accuracy"} <= set(summary["baseline"]["metrics"])
    assert set(summary["weights"]) == {"alice", "bob", "carol"}
    for party in summary["weights"]:
        assert (tmp_path / party / "model.safetensors").is_file()
    assert (tmp_path / "log").is_dir()
    assert "alice: training" in err
    assert "epoch 2/2: " in err


def test_ctrl_c_ends_a_run_cleanly(tmp_path: Path) -> None:
    arguments = ["--dir", str(tmp_path), "--set", "training.epochs=60000", "--no-baseline"]
    program = start("run", TOPOLOGY, *arguments)
    if program.stderr is None or program.stdout is None:
        raise AssertionError("the streams are pipes")
    read = []
    for line in program.stderr:
        read.append(line)
        if line.startswith("epoch 1/"):
            break
    os.killpg(program.pid, signal.SIGINT)  # as a terminal does: to every process of the run
    out, rest = program.communicate()
    err = "".join(read) + rest
    assert program.returncode == 130, err
    assert f"are in {tmp_path}/" in err
    assert "Traceback" not in err
    assert "Traceback" not in out


@pytest.mark.long
def test_parties_started_by_hand_in_any_order_meet(tmp_path: Path) -> None:
    arguments = ["--topology", str(TOPOLOGY), "--dir", str(tmp_path), "--json", "--quiet"]
    arguments += ["--set", "training.epochs=1"]
    parties = {name: start("party", name, *arguments) for name in ("carol", "alice", "bob")}
    ended = {name: program.communicate() for name, program in parties.items()}
    assert {name: program.returncode for name, program in parties.items()} == dict.fromkeys(
        parties, 0
    ), ended
    assert {err for _, err in ended.values()} == {""}
    weights = [json.loads(out)["weights"] for out, _ in ended.values()]
    assert weights[0] == weights[1] == weights[2]
