from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from slstream.cli.exit_code import ExitCode
from slstream.cli.health import command


def health(directory: Path, *options: str) -> Result:
    """Its exit status is the return value, as the program's other commands have it."""
    return CliRunner().invoke(
        command, ["--dir", str(directory), *options], standalone_mode=False, catch_exceptions=False
    )


def beat(directory: Path, party: str, *, ago_s: float) -> None:
    file = directory / party / "alive"
    file.parent.mkdir()
    file.touch()
    os.utime(file, (time.time() - ago_s,) * 2)


@pytest.mark.parametrize(
    ("ages_s", "options", "expected"),
    [
        ([1.0], [], ExitCode.OK),
        ([25.0], [], ExitCode.OK),
        ([40.0], [], ExitCode.FAILED),
        ([40.0], ["--within", "60"], ExitCode.OK),
        ([1.0, 40.0], [], ExitCode.FAILED),
        ([-40.0], [], ExitCode.FAILED),
        ([], [], ExitCode.FAILED),
    ],
)
def test_status(
    tmp_path: Path, ages_s: list[float], options: list[str], expected: ExitCode
) -> None:
    for number, age_s in enumerate(ages_s):
        beat(tmp_path, f"party{number}", ago_s=age_s)
    assert health(tmp_path, *options).return_value is expected


def test_says_who_and_how_long_ago(tmp_path: Path) -> None:
    beat(tmp_path, "bob", ago_s=40)
    assert "bob: last sign of life 40 s ago" in health(tmp_path).output
    none = tmp_path / "none"
    assert f"error: no party runs in {none}, as there is no such" in health(none).stderr
