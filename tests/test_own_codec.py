"""A codec in a package of its own, as README.md shows one: installed, tested, trained with."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from slstream.testing.codecs import gradient
from tests.party.federation import write_federation
from tests.source_tree import ROOT

# Starts pip, pytest and parties that import torch, on machines that may be busy.
pytestmark = pytest.mark.timeout(240)

NAMES = ("signrow.py", "pyproject.toml", "test_signrow.py", "codec.yaml")


def shown() -> dict[str, str]:
    """The files in the README, by name."""
    text = (ROOT / "README.md").read_text()
    found = re.findall(r"^<!-- own codec: (.+?) -->\n```\w+\n(.*?)^```$", text, re.M | re.S)
    assert len(found) == text.count("<!-- own codec:"), "a marker without a block behind it"
    return dict(found)


@dataclass(frozen=True, slots=True, kw_only=True)
class Installed:
    """The package, where only those find it who are told to look there."""

    site: Path
    folder: Path
    """Empty of the package's own files, so that what runs there is what was installed."""

    def run(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", *map(str, arguments)],
            capture_output=True,
            text=True,
            cwd=self.folder,
            env={
                **os.environ,
                "SLSTREAM_DEBUG": "",
                "PYTHONPATH": str(self.site),
                "PYTEST_ADDOPTS": "",  # those of this run change what the other one prints
            },
            check=False,
        )


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    root = tmp_path_factory.mktemp("own-codec")
    found = Installed(site=root / "site", folder=root / "elsewhere")
    source = root / "source"
    for folder in (source, found.folder):
        folder.mkdir()
    for name in ("signrow.py", "pyproject.toml"):
        (source / name).write_text(shown()[name])
    # No network: what it needs is here.
    options = ("--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check")
    result = found.run("pip", "install", *options, "--target", found.site, source)
    assert result.returncode == 0, result.stderr
    return found


def test_the_codec_is_shown_in_30_lines() -> None:
    assert tuple(shown()) == NAMES
    lines = [line for line in shown()["signrow.py"].splitlines() if line]
    assert len(lines) <= 30
    assert max(map(len, lines)) <= 100


def test_it_passes_the_conformance_kit(installed: Installed) -> None:
    (installed.folder / "test_signrow.py").write_text(shown()["test_signrow.py"])
    result = installed.run("pytest", "-q", "-W", "error", "test_signrow.py")
    assert result.returncode == 0, result.stdout + result.stderr
    passed = re.search(r"^(\d+) passed", result.stdout, re.M)
    assert passed
    assert int(passed[1]) >= 20


def test_the_conformance_kit_finds_a_codec_that_breaks_a_promise(tmp_path: Path) -> None:
    """So that the test above means something: the kit runs over what is installed."""
    site = tmp_path / "site"
    info = site / "signrow-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: signrow\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[slstream.codecs]\nsignrow = signrow:SignRow\n")
    code = shown()["signrow.py"]
    length_check = re.search(r"^ +payload\.expect_length.*\n", code, re.M)
    assert length_check
    (site / "signrow.py").write_text(code.replace(length_check[0], ""))
    (tmp_path / "test_signrow.py").write_text(shown()["test_signrow.py"])
    result = Installed(site=site, folder=tmp_path).run("pytest", "-q", "test_signrow.py")
    assert result.returncode == 1
    assert re.search(r"^FAILED .*truncated", result.stdout, re.M)


def test_the_command_line_knows_it(installed: Installed) -> None:
    listed = json.loads(installed.run("slstream", "codecs", "list", "--json").stdout)["codecs"]
    (row,) = (row for row in listed if row["id"] == "signrow")
    assert (row["kind"], row["source"]) == ("tensor", "signrow:SignRow")
    np.save(installed.folder / "gradient.npy", gradient(64, 32))
    result = installed.run("slstream", "codecs", "try", "signrow", "gradient.npy", "--json")
    found = json.loads(result.stdout)
    assert found["encoded_bytes"] == 1 + 4 * 64 + 64 * 32 // 8
    assert 3 < found["snr_db"] < 6  # of a Gaussian row 4.4 dB: a share of 2 / pi is kept


def test_parties_train_with_it(installed: Installed, tmp_path: Path) -> None:
    path = write_federation(tmp_path).path
    path.write_text(path.read_text() + shown()["codec.yaml"])
    arguments = (path, "--dir", tmp_path / "run", "--json", "--quiet", "--no-baseline")
    result = installed.run("slstream", "run", *arguments, "--set", "training.epochs=1")
    assert result.returncode == 0, result.stderr
    summary = json.loads(result.stdout)
    assert summary["outcome"] == "finished"
    (gradients,) = (each for each in summary["traffic"] if each["kind"] == "gradient")
    assert gradients["codec"] == "signrow"
    assert gradients["frames"] > 0
