"""What ``run`` and ``party`` have in common: their options, and what they show."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from pathlib import Path

import click

from slstream.cli.exit_code import ExitCode
from slstream.cli.log_output import LEVELS, LogFormat, logs_to
from slstream.cli.progress import Focus, progress_display
from slstream.cli.summary_table import summary_table
from slstream.cli.terminal import message_console, result_console
from slstream.errors import ConfigError, SlstreamError
from slstream.party.summary import Summary
from slstream.party.telemetry import Progress

type_of_path = click.Path(path_type=Path)
type_of_folder = click.Path(path_type=Path, file_okay=False)
"""Of one that exists or shall be made."""

_EXIT_CODES = {"failed": ExitCode.FAILED, "interrupted": ExitCode.INTERRUPTED}
"""By outcome; every other outcome is a success."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionOptions:
    """Options of a command that takes part in a session."""

    directory: Path | None
    overrides: tuple[str, ...]
    quiet: bool
    as_json: bool
    log_level: str
    log_format: LogFormat


def session_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give ``command`` the common options, as one argument ``options``."""

    @wraps(command)
    def with_options(
        *,
        directory: Path | None,
        overrides: tuple[str, ...],
        quiet: bool,
        as_json: bool,
        log_level: str | None,
        log_format: str,
        **own: object,
    ) -> None:
        options = SessionOptions(
            directory=directory,
            overrides=overrides,
            quiet=quiet,
            as_json=as_json,
            log_level=log_level or ("error" if quiet else "warning"),
            log_format=LogFormat(log_format),
        )
        command(options=options, **own)

    decorated: Callable[..., None] = with_options
    for option in reversed(_OPTIONS):
        decorated = option(decorated)
    return decorated


_OPTIONS = (
    click.option(
        "--set",
        "overrides",
        metavar="KEY.PATH=VALUE",
        multiple=True,
        help="Change the topology before it is checked: training.epochs=3. Repeatable.",
    ),
    click.option(
        "--json", "as_json", is_flag=True, help="Print the summary as one JSON object instead."
    ),
    click.option(
        "-q", "--quiet", is_flag=True, help="No progress and no table: only errors, and --json."
    ),
    click.option(
        "--log-level",
        type=click.Choice(LEVELS),
        help="Least important log lines to show.  [default: warning; error with --quiet]",
    ),
    click.option(
        "--log-format",
        type=click.Choice([each.value for each in LogFormat]),
        default=LogFormat.TEXT.value,
        show_default=True,
        help="key=value pairs or JSON lines; to standard error.",
    ),
)


def show_session(
    take_part: Callable[[Callable[[Progress], None]], Summary],
    *,
    focus: Focus,
    directory: Path,
    options: SessionOptions,
    party: str | None = None,
) -> None:
    """Take part in a session, show its progress, and print what it came to.

    Only the summary goes to standard output. Exits with the status of the session's outcome.

    Args:
        take_part: does the work; gets the function to call with each progress event.
        focus: what the progress display tells where it cannot tell all.
        directory: where the files of the run lie.
        options: what to show.
        party: the one that runs, when it runs alone.

    Raises:
        SlstreamError: whatever ``take_part`` raises, with a note of where the files are.
    """
    console = message_console()
    try:
        with (
            logs_to(console, level=options.log_level, log_format=options.log_format),
            progress_display(console, focus, quiet=options.quiet) as display,
        ):
            summary = take_part(display.update)
    except SlstreamError as error:
        # A configuration error is found before anything is written; and who asked for quiet, as
        # `run` does of its parties, knows the folder.
        if not isinstance(error, ConfigError) and not options.quiet and directory.is_dir():
            error.add_note(f"The files of this run are in {directory}/")
        raise
    if options.as_json:
        click.echo(summary.to_json(), nl=False)
    elif not options.quiet:
        result_console().print(summary_table(summary, directory, party))
    code = _EXIT_CODES.get(summary.outcome, ExitCode.OK)
    if code is not ExitCode.OK:
        sys.exit(code)
