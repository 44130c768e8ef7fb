"""A click group that imports a command only when it is used."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module

import click


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandPlace:
    """Where a command is, and what it does in a line."""

    module: str
    """Holds the click command under the name ``command``."""
    summary: str
    """Shown in the group's help, so that the help imports no command."""


class LazyGroup(click.Group):
    """A group whose commands are imported when they are used.

    ``--help`` of the program then needs click alone, while torch, numba and polars, which take
    seconds to import, wait for the command that needs them.
    """

    def __init__(
        self,
        name: str,
        *,
        places: Mapping[str, CommandPlace],
        help: str,
        epilog: str | None = None,
        params: list[click.Parameter] | None = None,
    ) -> None:
        super().__init__(name, help=help, epilog=epilog, params=params)
        self._places = places

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names in the order in which they were given, which is the order of use."""
        return list(self._places)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command; ``None`` when there is none of this name."""
        place = self._places.get(cmd_name)
        if place is None:
            return None
        command = import_module(place.module).command
        if not isinstance(command, click.Command):
            raise TypeError(f"{place.module}.command is no click command: {command!r}")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands from their summaries alone."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, place.summary) for name, place in self._places.items()])
