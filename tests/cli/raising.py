"""A command for tests: raises what it is told to."""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable
from typing import NoReturn

import click

from slstream.errors import DataError, Interrupted


def _raise(error: BaseException) -> NoReturn:
    raise error


def _noted() -> NoReturn:
    error = Interrupted("asked to stop at step 7")
    error.add_note("The files of this run are in runs/x-1/")
    raise error


OUTCOMES: dict[str, Callable[[], object]] = {
    "fine": lambda: None,
    "user": lambda: _raise(DataError("bob.csv: expected column 'id', found 'ID'")),
    "hostile": lambda: _raise(DataError("refused: \x1b[2Jgone")),
    "interrupted": _noted,
    "keyboard": lambda: _raise(KeyboardInterrupt()),
    "bug": lambda: _raise(ZeroDivisionError("division by zero")),
    "file": lambda: _raise(PermissionError(errno.EACCES, "Permission denied", "runs")),
    "pipe": lambda: _raise(BrokenPipeError(errno.EPIPE, "Broken pipe")),
    "exit": lambda: sys.exit(3),
}


@click.command("raising")
@click.argument("outcome", type=click.Choice(list(OUTCOMES)))
def command(outcome: str) -> None:
    """Raise."""
    OUTCOMES[outcome]()
