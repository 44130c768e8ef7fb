"""The sessions of a log as a table."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from slstream.audit.session_list import UNANNOUNCED, ListedSession
from slstream.cli.printable import printable
from slstream.cli.units import human_bytes

_STYLES = {"finished": "green", "stopped early": "green", "failed": "bold red"}


def session_list_table(sessions: Sequence[ListedSession], log: str) -> RenderableType:
    """All sessions of one log, for about 80 columns; times are in UTC.

    Args:
        sessions: of the log.
        log: its URL.
    """
    title = Text(printable(log), style="bold")
    if not sessions:
        return Group(title, Text("no session"))
    table = Table(
        box=box.SIMPLE_HEAD,
        header_style="dim",
        pad_edge=False,
        padding=(0, 1, 0, 0),
        show_edge=False,
        show_lines=len(sessions) > 1,
    )
    table.add_column("session")
    table.add_column("parties\n(starts)")
    table.add_column("reached", no_wrap=True)
    table.add_column("standing", justify="right", no_wrap=True)
    table.add_column("first record,\nlast record", no_wrap=True)
    for session in sessions:
        table.add_row(
            _name(session), _parties(session), _reached(session), _size(session), _times(session)
        )
    return Group(title, Text(), table, *_remarks(sessions))


def _name(session: ListedSession) -> Text:
    text = Text(printable(f"{session.federation}\n{session.session}\n"))
    text.append(session.state, style=_STYLES.get(session.state, "yellow"))
    if session.problems:
        text.append(", damaged", style="bold red")
    return text


def _parties(session: ListedSession) -> Text:
    """One a line, with the number of its processes where it was more than one."""
    starts = session.incarnations
    return _lines(
        printable(party) + (f" ({starts[party]})" if starts[party] > 1 else "")
        for party in session.parties
    )


def _reached(session: ListedSession) -> Text:
    planned = "" if session.epochs is None else f" of {session.epochs:,}"
    return _lines((f"epoch {session.epoch:,}{planned}", _count(session.steps, "step")))


def _size(session: ListedSession) -> Text:
    lines = [_count(session.frames, "frame"), human_bytes(session.wire_bytes)]
    if session.duplicates:
        lines.append(_count(session.duplicates, "duplicate"))
    lines += [
        f"{number:,} {name}"
        for number, name in ((session.fenced, "fenced"), (session.abandoned, "abandoned"))
        if number
    ]
    return _lines(lines)


def _times(session: ListedSession) -> Text:
    return _lines(_time(each) for each in (session.started_ms, session.last_ms))


def _time(milliseconds: int | None) -> str:
    if milliseconds is None:
        return ""
    try:
        time = datetime.fromtimestamp(milliseconds / 1000, UTC)
    except (OverflowError, ValueError):  # a log may claim any time
        return f"{milliseconds} ms"
    return f"{time:%Y-%m-%d %H:%M}"


def _remarks(sessions: Sequence[ListedSession]) -> list[Text]:
    found: list[Text] = []
    for session in sessions:
        name = printable(session.session)
        if session.reason and session.state != "stopped early":
            found.append(Text(f"{name}: {session.state}: {printable(session.reason)}"))
        if session.state == UNANNOUNCED:
            found.append(Text(f"{name}: the lobby does not name it; it never began"))
        found += [
            Text(f"{name}: {printable(party)} recomputed {_count(number, 'frame')} differently")
            for party, number in session.divergences.items()
        ]
        found += [
            Text(f"{name}: damaged: {printable(problem)}", style="red")
            for problem in session.problems
        ]
    return [Text(), *found] if found else []


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _lines(lines: Iterable[str]) -> Text:
    return Text("\n".join(lines))
