"""Types and style, so that ``pytest`` alone shows them too."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.source_tree import ROOT


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "check",
    [
        pytest.param(["mypy"], id="mypy"),
        pytest.param(["ruff", "check", "slstream", "tests"], id="ruff-check"),
        pytest.param(["ruff", "format", "--check", "slstream", "tests"], id="ruff-format"),
    ],
)
def test_holds(check: list[str]) -> None:
    result = subprocess.run(
        [sys.executable, "-m", *check], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr
