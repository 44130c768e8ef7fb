"""What an archive holds, as a table."""

from __future__ import annotations

from pathlib import Path

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from slstream.archive.verification import ArchiveReport, VerifiedPartition
from slstream.cli.printable import printable
from slstream.cli.units import human_bytes


def archive_table(report: ArchiveReport, path: Path) -> RenderableType:
    """All of a report but the digests' last digits, for about 80 columns."""
    title = Text.assemble(
        (printable(report.federation), "bold"),
        "  ",
        (printable(report.outcome, keep_lines=False), "bold"),
        "  intact",
    )
    return Group(
        title,
        Text(f"session {report.session}", style="dim"),
        Text(),
        _partitions(report.partitions),
        Text(),
        Text(f"{report.links:,} links, {report.frames:,} frames, {report.schemas:,} schemas"),
        Text(f"{printable(str(path))}: {human_bytes(report.file_bytes)}"),
        Text(f"digest {report.digest}"),
    )


def _partitions(partitions: tuple[VerifiedPartition, ...]) -> Table:
    table = Table(
        box=box.SIMPLE_HEAD,
        header_style="dim",
        pad_edge=False,
        padding=(0, 2, 0, 0),
        show_edge=False,
    )
    table.add_column("topic", overflow="fold")
    for name in ("records", "frames", "bytes"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("sha256", no_wrap=True)
    for each in partitions:
        number = f" [{each.partition}]" if each.partition else ""
        table.add_row(
            Text(f"{printable(each.topic)}{number}"),
            f"{each.records:,}",
            f"{each.frames:,}" if each.frames else "",
            human_bytes(each.bytes),
            each.sha256[:12],
        )
    return table
