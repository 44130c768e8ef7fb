"""What the user sees while a session runs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from rich.console import Console

from slstream.party.telemetry import PartyState, Progress

ENDED = (PartyState.FINISHED, PartyState.FAILED, PartyState.INTERRUPTED)
"""States after which a party says no more."""


class ProgressDisplay(ABC):
    """A context that shows progress events until it ends.

    ``update`` may be called from any one thread at a time and returns at once.
    """

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        return None

    @abstractmethod
    def update(self, event: Progress) -> None:
        """Take the newest event of one party."""


class SilentDisplay(ProgressDisplay):
    """Shows nothing."""

    def update(self, event: Progress) -> None:
        """Do nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Focus:
    """What to tell where there is not room for everything."""

    party: str
    """Whose epochs count: the label party, or the one that runs alone."""
    metric: str
    """The validation metric to show."""


def progress_display(console: Console, focus: Focus, *, quiet: bool) -> ProgressDisplay:
    """The display that fits where the console writes to.

    Args:
        console: a live table when it is a terminal, plain lines otherwise.
        focus: what to tell where there is not room for everything.
        quiet: show nothing.
    """
    from slstream.cli.progress_lines import ProgressLines
    from slstream.cli.progress_table import ProgressTable

    if quiet:
        return SilentDisplay()
    return ProgressTable(console, focus) if console.is_terminal else ProgressLines(console, focus)
