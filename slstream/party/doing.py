"""What was being done to the log when it failed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from slstream.errors import TransportError


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
