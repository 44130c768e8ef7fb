"""The two places that text goes to: results to standard output, all else to standard error."""

from __future__ import annotations

import os
import sys
from typing import TextIO

from rich.console import Console

PLAIN_WIDTH = 100
"""Columns of a table that goes to a file or a pipe."""


def result_console() -> Console:
    """For what the user asked for: tables. Without colours unless it is a terminal."""
    return _console(sys.stdout)


def message_console() -> Console:
    """For progress, logs and errors."""
    return _console(sys.stderr)


def _console(stream: TextIO) -> Console:
    # NO_COLOR is rich's own business.
    width = None if stream.isatty() or "COLUMNS" in os.environ else PLAIN_WIDTH
    return Console(file=stream, width=width, highlight=False)
