"""Progress on a terminal: a table that is repainted in place, one row per party."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from slstream.cli.printable import printable
from slstream.cli.progress import ENDED, Focus, ProgressDisplay
from slstream.cli.units import human_bytes, human_number, human_ratio, human_seconds
from slstream.party.telemetry import PartyState, Progress

REFRESHES_PER_SECOND = 4
"""Enough for the eye; each costs the training a few milliseconds of one core."""

_STYLES = {
    PartyState.OPENING: "cyan",
    PartyState.TRAINING: "green",
    PartyState.EVALUATING: "blue",
    PartyState.FINISHED: "bold green",
    PartyState.FAILED: "bold red",
    PartyState.INTERRUPTED: "bold yellow",
}


class ProgressTable(ProgressDisplay):
    """Repainted a few times a second; its last state stays on the screen."""

    def __init__(
        self, console: Console, focus: Focus, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._console = console
        self._focus = focus
        self._clock = clock
        self._latest: dict[str, Progress] = {}
        self._arrived_s: dict[str, float] = {}
        self._began_s = clock()
        self._live = Live(
            console=console,
            get_renderable=self.render,
            refresh_per_second=REFRESHES_PER_SECOND,
            # Logs come through the same console; what others print is left alone.
            redirect_stdout=False,
            redirect_stderr=False,
        )

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._live.stop()

    def update(self, event: Progress) -> None:
        """Remember the event, which the next repaint shows; a new message goes above the table."""
        before = self._latest.get(event.party)
        self._arrived_s[event.party] = self._clock()
        self._latest[event.party] = event
        if event.message and (before is None or before.message != event.message):
            self._console.print(Text(printable(f"{event.party}: {event.message}")))

    def render(self) -> RenderableType:
        """The display as it is now."""
        # A copy, because the painting thread is here while events come in.
        events = sorted(self._latest.copy().values(), key=lambda event: event.party)
        now_s = self._clock()
        elapsed_s = now_s - self._began_s
        if not events:
            return Text(f"starting  {human_seconds(elapsed_s)}", style="dim")
        # A party that waits is silent, so its wait grows here.
        waits = [
            _wait_line(event, event.waiting_s + now_s - self._arrived_s[event.party])
            for event in events
            if _waits(event)
        ]
        return Group(_overall(events, elapsed_s), _parties(events, self._focus.metric), *waits)


def _overall(events: list[Progress], elapsed_s: float) -> Table:
    """Epoch, bar, share done, time; the party that is farthest behind counts."""
    slowest = min(events, key=_share_done)
    share = _share_done(slowest)
    line = Table.grid(padding=(0, 2, 0, 0), expand=True)
    line.add_column(no_wrap=True)
    line.add_column(ratio=1)
    line.add_column(justify="right", no_wrap=True)
    line.add_column(justify="right", no_wrap=True)
    line.add_row(
        Text(f"epoch {slowest.epoch}/{slowest.epochs}", style="bold"),
        ProgressBar(total=1.0, completed=share),
        f"{share:.0%}",
        human_seconds(elapsed_s),
    )
    return line


def _share_done(event: Progress) -> float:
    if event.state is PartyState.FINISHED:
        return 1.0  # after an early stop, too, nothing is left to do
    total = event.epochs * event.steps
    done = max(event.epoch - 1, 0) * event.steps + event.step
    return min(done / total, 1.0) if total else 0.0


def _parties(events: list[Progress], metric: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    table.add_column("party", max_width=16, no_wrap=True)
    table.add_column("state", min_width=10, no_wrap=True)
    for name in ("step", "loss", metric, "raw", "wire", "ratio"):
        table.add_column(printable(name), justify="right", max_width=9, no_wrap=True)
    for event in events:
        table.add_row(
            printable(event.party),
            _state(event),
            f"{event.step}/{event.steps}" if event.steps else "",
            "" if event.loss is None else human_number(event.loss),
            human_number(event.metrics[metric]) if metric in event.metrics else "",
            human_bytes(event.raw_bytes),
            human_bytes(event.wire_bytes),
            human_ratio(event.raw_bytes, event.wire_bytes),
        )
    return table


def _state(event: Progress) -> Text:
    if _waits(event):
        return Text("waiting", style="yellow")
    return Text(event.state.value, style=_STYLES[event.state])


def _waits(event: Progress) -> bool:
    return event.waiting_for is not None and event.state not in ENDED


def _wait_line(event: Progress, waited_s: float) -> Text:
    text = f"{event.party} has waited {human_seconds(waited_s)} for {event.waiting_for}"
    return Text(printable(text), style="yellow")
