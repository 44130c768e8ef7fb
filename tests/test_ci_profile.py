"""What ``CI`` in the environment, as ``.ci/run`` sets it, makes of hypothesis."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.source_tree import ROOT

_SHOW = "from hypothesis import settings; d = settings.default; print(d.derandomize, d.deadline)"


@pytest.mark.parametrize(("value", "expected"), [("true", "True None"), (None, "False 0:00:00.2")])
def test_hypothesis_takes_the_same_examples_each_time(value: str | None, expected: str) -> None:
    environment = {name: each for name, each in os.environ.items() if name == "PATH"}
    if value is not None:
        environment["CI"] = value
    done = subprocess.run(
        [sys.executable, "-c", _SHOW],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip().startswith(expected)


def test_ci_sets_it() -> None:
    assert "\nexport CI=true\n" in (ROOT / ".ci" / "run").read_text()
