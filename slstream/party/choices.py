"""The codecs that a party chose by itself, for its summary."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from slstream.party.summary import CodecChosen

MOST = 100
"""The latest; all are in the log, as headers of the records with which they began."""


class Choices:
    """What one sender chose, oldest first."""

    def __init__(self) -> None:
        """Nothing was chosen."""
        self._made: deque[CodecChosen] = deque(maxlen=MOST)

    def add(self, choice: CodecChosen) -> None:
        """Note a choice."""
        self._made.append(choice)

    def restore(self, choices: Sequence[CodecChosen]) -> None:
        """Go on from what :attr:`made` said."""
        self._made = deque(choices, maxlen=MOST)

    @property
    def made(self) -> list[CodecChosen]:
        """The latest choices."""
        return list(self._made)
