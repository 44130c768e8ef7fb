"""The installed codecs as a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich import box
from rich.table import Table
from rich.text import Text

from slstream.cli.codecs_description import describe
from slstream.cli.printable import printable
from slstream.codecs.registry import codec_class, known_ids
from slstream.errors import CodecError


def list_rows() -> list[dict[str, str]]:
    """Every installed codec by id: kind, summary and source, or the problem that it has."""
    return [_row(codec_id) for codec_id in known_ids()]


def _row(codec_id: str) -> dict[str, str]:
    try:
        found = describe(codec_class(codec_id))
    except CodecError as error:  # one that cannot be loaded is no reason to hide the others
        return {"id": codec_id, "problem": str(error)}
    return {
        "id": codec_id,
        "kind": found.kind,
        "summary": found.summary,
        "source": found.source,
    }


def codecs_table(rows: Sequence[Mapping[str, str]]) -> Table:
    """For about 80 columns.

    Args:
        rows: as :func:`list_rows` gives them.
    """
    table = Table(
        box=box.SIMPLE_HEAD,
        header_style="dim",
        pad_edge=False,
        padding=(0, 2, 0, 0),
        show_edge=False,
    )
    table.add_column("id", no_wrap=True)
    table.add_column("kind", no_wrap=True)
    table.add_column("what it does")
    for row in rows:
        problem = row.get("problem")
        about = Text(printable(row["summary"])) if problem is None else Text(printable(problem))
        if problem is not None:
            about.stylize("red")
        table.add_row(Text(printable(row["id"])), row.get("kind", "broken"), about)
    return table
