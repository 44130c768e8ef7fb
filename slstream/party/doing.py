"""What was being done to the log when it failed, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from slstream.errors import OffsetOutOfRange, TransportDenied, TransportError, UnknownTopic

RESTORE = "restore the log from a copy, or begin a new session with --new"
"""What to do when a part of a session's log is not there any more."""


@contextmanager
def doing(what: str) -> Iterator[None]:
    """Say in a transport's error what was being done, and where.

    Args:
        what: follows "cannot": ``read the lobby (topic credit.lobby, offset 3)``.

    Raises:
        TransportError: of the same class, with ``what`` in front.
    """
    try:
        yield
    except TransportError as error:
        raise type(error)(f"cannot {what}: {error}") from error


@contextmanager
def provided_by(command: str) -> Iterator[None]:
    """Say in an error about a missing right with which command an operator provides it.

    Args:
        command: ready to be copied into a shell.

    Raises:
        TransportDenied: with the command at the end.
    """
    try:
        yield
    except TransportDenied as error:
        raise TransportDenied(f"{error}; to provide it: {command}") from error


@contextmanager
def or_restored() -> Iterator[None]:
    """Say what to do when a part of a session's log is not there any more.

    Raises:
        UnknownTopic: with the remedy at the end.
        OffsetOutOfRange: the same.
    """
    try:
        yield
    except (UnknownTopic, OffsetOutOfRange) as error:
        raise type(error)(f"{error}; {RESTORE}") from error
