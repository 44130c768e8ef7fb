"""What the negative controls take out is still there: a control that replaces nothing passes."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.replacing import replace_attribute
from tests.source_tree import ROOT

TAKE_OUT = """
from tests.kafka_training.disabled import Without, names
Without(names()).install()
"""


def test_each_mechanism_can_be_taken_out() -> None:
    done = subprocess.run(
        [sys.executable, "-c", TAKE_OUT],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_what_is_not_there_is_not_replaced() -> None:
    with pytest.raises(AttributeError, match="_is_logged"):
        replace_attribute(Exception, "_is_logged", None)
