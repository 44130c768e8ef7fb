"""Progress off a terminal: a line per epoch, per change of state and per message."""

from __future__ import annotations

from rich.console import Console

from slstream.cli.printable import printable
from slstream.cli.progress import ENDED, Focus, ProgressDisplay
from slstream.cli.units import human_bytes, human_number, human_ratio, human_seconds
from slstream.party.telemetry import PartyState, Progress

LONG_WAIT_S = 5.0
"""A wait is worth a line from here on, and again whenever it has doubled."""


class ProgressLines(ProgressDisplay):
    """Few lines, each complete in itself, so that a log file of them can be searched."""

    def __init__(self, console: Console, focus: Focus) -> None:
        self._console = console
        self._focus = focus
        self._latest: dict[str, Progress] = {}
        self._epochs_told = 0
        self._next_wait_s: dict[str, float] = {}

    def update(self, event: Progress) -> None:
        """Print what is new in this event, if anything."""
        before = self._latest.get(event.party)
        self._latest[event.party] = event
        self._tell_epoch(event)
        if before is None or _phase(before.state) != _phase(event.state):
            self._print(f"{event.party}: {_phase(event.state)}")
        if event.message and (before is None or before.message != event.message):
            self._print(f"{event.party}: {event.message}")
        self._tell_wait(event)

    def _tell_epoch(self, event: Progress) -> None:
        """One line per epoch for all parties together."""
        done = event.epoch if event.state in ENDED else event.epoch - 1
        if event.party != self._focus.party or done <= self._epochs_told:
            return
        self._epochs_told = done
        raw = sum(latest.raw_bytes for latest in self._latest.values())
        wire = sum(latest.wire_bytes for latest in self._latest.values())
        numbers = [] if event.loss is None else [f"training loss {human_number(event.loss)}"]
        numbers += [
            f"{'validation loss' if name == 'loss' else name} {human_number(value)}"
            for name, value in event.metrics.items()
        ]
        numbers.append(
            f"sent {human_bytes(raw)} as {human_bytes(wire)} ({human_ratio(raw, wire)} fewer)"
        )
        self._print(f"epoch {done}/{event.epochs}: {', '.join(numbers)}")

    def _tell_wait(self, event: Progress) -> None:
        if event.waiting_for is None:
            self._next_wait_s.pop(event.party, None)
        elif event.waiting_s >= self._next_wait_s.get(event.party, LONG_WAIT_S):
            self._next_wait_s[event.party] = 2 * event.waiting_s
            waited = human_seconds(event.waiting_s)
            self._print(f"{event.party}: has waited {waited} for {event.waiting_for}")

    def _print(self, line: str) -> None:
        self._console.out(printable(line, keep_lines=False), highlight=False)


def _phase(state: PartyState) -> str:
    """Training and evaluating alternate with each epoch, whose line says enough."""
    return PartyState.TRAINING.value if state is PartyState.EVALUATING else state.value
