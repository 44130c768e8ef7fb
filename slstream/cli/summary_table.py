"""The tables at the end of a run: what it reached, what it sent, and where the time went."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from slstream.cli.printable import printable
from slstream.cli.units import human_bytes, human_number, human_ratio, human_seconds
from slstream.party.summary import Summary, Traffic

SHARES = frozenset({"auc", "accuracy"})
"""Metrics between 0 and 1, whose differences are told in points (hundredths)."""


MOST_CHOICES = 12
"""Choices of codecs that are shown."""

_CONTROL = "control"


def summary_table(summary: Summary, directory: Path, party: str | None = None) -> RenderableType:
    """All of a summary, for about 80 columns.

    Args:
        summary: what the run came to.
        directory: where the run's files lie.
        party: whose view it is, when the other parties' files may lie on other machines.
    """
    parts: list[RenderableType] = [Text(), _title(summary)]
    parts.append(Text(f"session {printable(summary.session)}", style="dim"))
    if summary.rows:
        parts.append(_rows(summary))
    for table in (_metrics(summary), _traffic(summary), _choices(summary), _time(summary)):
        if table.row_count:
            parts += [Text(), table]
    parts += [Text(), *_files(summary, directory, party)]
    return Group(*parts)


def _title(summary: Summary) -> Text:
    good = summary.outcome in ("finished", "stopped early")
    return Text.assemble(
        (printable(summary.federation), "bold"),
        "  ",
        (summary.outcome, "bold green" if good else "bold red"),
        f" after {_count(summary.epochs, 'epoch')} and {_count(summary.steps, 'step')}",
    )


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _rows(summary: Summary) -> Text:
    rows = dict(summary.rows)
    text = Text(f"rows matched {rows.pop('matched', 0):,}")
    if rows:
        text.append(" (" + ", ".join(f"{name} {n:,}" for name, n in rows.items()) + ")")
    if summary.party_rows:
        owned = (f"{printable(party)} {n:,}" for party, n in summary.party_rows.items())
        text.append(" of " + ", ".join(owned))
    return text


def _table(title: str) -> Table:
    return Table(
        title=title,
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        header_style="dim",
        pad_edge=False,
        padding=(0, 2, 0, 0),
        show_footer=False,
        show_edge=False,
    )


def _metrics(summary: Summary) -> Table:
    table = _table("Validation")
    table.add_column("metric")
    table.add_column("split", justify="right")
    baseline = summary.baseline
    if baseline is not None:
        table.add_column("one process, uncompressed", justify="right")
        table.add_column("difference", justify="right")
    for name, value in summary.metrics.items():
        cells = [printable(name), _metric(name, value)]
        if baseline is not None and name in baseline.metrics:
            cells += [_metric(name, baseline.metrics[name])]
            cells += [_difference(name, value - baseline.metrics[name])]
        table.add_row(*cells)
    return table


def _metric(name: str, value: float) -> str:
    return f"{value:.4f}" if name in SHARES else human_number(value)


def _difference(name: str, difference: float) -> str:
    if difference == 0:
        return "none"
    return f"{100 * difference:+.2f} points" if name in SHARES else f"{difference:+.3g}"


def _traffic(summary: Summary) -> Table:
    """Per direction a total and below it the kinds of frames, those that are no tensors last."""
    table = _table("Bytes with all headers; raw: the same frames as float32")
    table.add_column("")
    table.add_column("codec")
    for name in ("frames", "raw", "wire", "ratio"):
        table.add_column(name, justify="right", no_wrap=True)
    for (sender, receiver), entries in _by(summary.traffic, _direction).items():
        direction = f"{printable(sender)} to {printable(receiver)}"
        table.add_row(direction, "", *_sums(entries), style="bold")
        kinds = _by(sorted(entries, key=lambda entry: entry.kind == _CONTROL), _row)
        for (kind, _), same in kinds.items():
            # Breaks between a codec's parameters, where the line is too short for them.
            codecs = ", ".join(printable(entry.codec).replace(",", ", ") for entry in same)
            table.add_row(f"  {printable(kind)}", codecs, *_sums(same))
    if summary.traffic:
        table.add_section()
        table.add_row("all", "", *_sums(summary.traffic), style="bold")
    return table


def _choices(summary: Summary) -> Table:
    """The latest codecs that senders chose, each with its reason."""
    table = _table("Codecs that the senders chose")
    for name in ("", "epoch/step", "codec", "because"):
        table.add_column(name)
    for choice in summary.choices[-MOST_CHOICES:]:
        table.add_row(
            f"{printable(choice.kind)} to {printable(choice.receiver)}",
            f"{choice.epoch}/{choice.step}",
            printable(choice.codec).replace(",", ", "),
            printable(choice.reason),
        )
    left = len(summary.choices) - MOST_CHOICES
    if left > 0:
        table.caption = f"and {left} earlier ones, in summary.json"
        table.caption_justify = "left"
    return table


def _by(
    traffic: Iterable[Traffic], key: Callable[[Traffic], tuple[str, str]]
) -> dict[tuple[str, str], list[Traffic]]:
    """Group, in the order of first appearance."""
    groups: dict[tuple[str, str], list[Traffic]] = {}
    for entry in traffic:
        groups.setdefault(key(entry), []).append(entry)
    return groups


def _direction(entry: Traffic) -> tuple[str, str]:
    return entry.sender, entry.receiver


def _row(entry: Traffic) -> tuple[str, str]:
    """A row of its own for each codec of tensors, one for all control frames."""
    return entry.kind, "" if entry.kind == _CONTROL else entry.codec


def _sums(traffic: Iterable[Traffic]) -> tuple[str, ...]:
    entries = list(traffic)
    raw = sum(entry.raw_bytes for entry in entries)
    wire = sum(entry.wire_bytes for entry in entries)
    frames = sum(entry.frames for entry in entries)
    return f"{frames:,}", human_bytes(raw), human_bytes(wire), human_ratio(raw, wire)


def _time(summary: Summary) -> Table:
    table = _table("Time")
    table.add_column("party")
    for name in ("opening", "compute", "codec", "transport", "waiting", "total"):
        table.add_column(name, justify="right", no_wrap=True)
    for party, spent in summary.time.items():
        seconds = (
            spent.opening_s,
            spent.compute_s,
            spent.codec_s,
            spent.transport_s,
            spent.waiting_s,
            spent.total_s,
        )
        table.add_row(printable(party), *(human_seconds(each) for each in seconds))
    if summary.time and summary.baseline is not None:
        total = human_seconds(summary.baseline.total_s)
        table.add_row("one process", *[""] * 5, total, style="dim")
    return table


def _files(summary: Summary, directory: Path, party: str | None) -> list[Text]:
    """Where to find what was made; paths are never cut, so that they can be copied."""
    files = {
        f"{owner}/model.safetensors": f"sha256 {digest[:16]}"
        for owner, digest in summary.weights.items()
        if party in (None, owner)
    }
    files["summary.json" if party is None else f"{party}/summary.json"] = "these numbers"
    width = max(map(len, files))
    return [
        Text.assemble("All of this run lies in ", (f"{directory}/", "bold"), ":"),
        *(Text(f"  {printable(name):{width}}  {what}") for name, what in files.items()),
    ]
