"""A bench report as a table: single numbers as a list, families (``<name>/<number>``) as a grid."""

from __future__ import annotations

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from slstream.bench.report import Report, Result
from slstream.cli.units import human_number


def report_table(report: Report) -> RenderableType:
    """All of a report, for about 80 columns."""
    single = [result for result in report.results if "/" not in result.name]
    families = [result for result in report.results if "/" in result.name]
    parts: list[RenderableType] = [Text(f"bench {report.bench}", style="bold")]
    if families:
        parts += [Text(), _grid(families)]
    if single:
        parts += [Text(), _list(single)]
    if report.notes:
        parts += [Text(), *(Text(f"note: {note}") for note in report.notes)]
    environment = ", ".join(f"{name} {value}" for name, value in report.environment.items())
    parts += [Text(), Text(environment, style="dim")]
    return Group(*parts)


def _list(results: list[Result]) -> Table:
    table = _table()
    table.add_column("result")
    table.add_column("value", justify="right", no_wrap=True)
    table.add_column("unit")
    table.add_column("target", no_wrap=True)
    table.add_column("holds", no_wrap=True)
    for result in results:
        table.add_row(
            result.name,
            human_number(result.value),
            result.unit,
            result.target or "",
            _holds(result),
        )
    return table


def _grid(results: list[Result]) -> Table:
    """One row per family, one column per number; a target stands beside its value."""
    cells = {tuple(result.name.rsplit("/", 1)): result for result in results}
    families = dict.fromkeys(family for family, _ in cells)
    numbers = {number: result.unit for (_, number), result in cells.items()}
    table = _table()
    table.add_column("", no_wrap=True)
    for number, unit in numbers.items():
        table.add_column(_heading(number, unit), justify="right")
    for family in families:
        row = (cells.get((family, number)) for number in numbers)
        table.add_row(family, *(_cell(result) for result in row))
    return table


def _heading(number: str, unit: str) -> str:
    """``encode_gb_per_s`` in GB/s is ``encode`` over ``GB/s``."""
    suffix = "_" + unit.lower().replace("/", "_per_")
    return f"{number.removesuffix(suffix).replace('_', ' ')}\n{unit}"


def _cell(result: Result | None) -> Text:
    if result is None:
        return Text()
    text = Text(human_number(result.value))
    if result.holds is not None:
        text.append(f" {result.target} ", style="dim").append_text(_holds(result))
    return text


def _holds(result: Result) -> Text:
    if result.holds is None:
        return Text()
    return Text("yes", style="green") if result.holds else Text("no", style="bold red")


def _table() -> Table:
    return Table(
        box=box.SIMPLE_HEAD,
        header_style="dim",
        pad_edge=False,
        padding=(0, 2, 0, 0),
        show_edge=False,
    )
