"""A bench report as a table: single numbers as a list, families (``<name>/<number>``) as a grid.

Families of many numbers would not fit beside each other: each of them is a list.
"""

from __future__ import annotations

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from slstream.bench.report import Report, Result
from slstream.cli.units import human_number

_GRID_NUMBERS = 6
"""As many as have room in 80 columns."""


def report_table(report: Report) -> RenderableType:
    """All of a report, for about 80 columns."""
    single = [result for result in report.results if "/" not in result.name]
    families = [result for result in report.results if "/" in result.name]
    parts: list[RenderableType] = [Text(f"bench {report.bench}", style="bold")]
    if families:
        parts += [Text(), *_families(families)]
    if single:
        parts += [Text(), _list(single)]
    if report.notes:
        parts += [Text(), *(Text(f"note: {note}") for note in report.notes)]
    environment = ", ".join(f"{name} {value}" for name, value in report.environment.items())
    parts += [Text(), Text(environment, style="dim")]
    return Group(*parts)


def _families(results: list[Result]) -> list[RenderableType]:
    cells = {_split(result): result for result in results}
    numbers = {number: result.unit for (_, number), result in cells.items()}
    if len(numbers) <= _GRID_NUMBERS:
        return [_grid(cells, numbers)]
    lists: list[RenderableType] = []
    for family in dict.fromkeys(family for family, _ in cells):
        own = [result for (name, _), result in cells.items() if name == family]
        lists += [*([Text()] if lists else []), _list(own, heading=family)]
    return lists


def _split(result: Result) -> tuple[str, str]:
    family, _, number = result.name.rpartition("/")
    return family, number


def _list(results: list[Result], *, heading: str = "result") -> Table:
    table = _table()
    table.add_column(heading, overflow="fold")
    table.add_column("value", justify="right", no_wrap=True)
    table.add_column("unit")
    table.add_column("target", no_wrap=True)
    table.add_column("holds", no_wrap=True)
    for result in results:
        table.add_row(
            _split(result)[1],
            human_number(result.value),
            result.unit,
            result.target or "",
            _holds(result),
        )
    return table


def _grid(cells: dict[tuple[str, str], Result], numbers: dict[str, str]) -> Table:
    """One row per family, one column per number; a target stands beside its value."""
    families = dict.fromkeys(family for family, _ in cells)
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
