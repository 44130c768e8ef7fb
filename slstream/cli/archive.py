"""``slstream archive``: keep a session in one file, and check such files."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from slstream.archive.verification import ArchiveReport

EPILOG = """\b
Examples:
  slstream archive export 20260131-101500-7f3a2b session.mcap --dir runs/credit-1
  slstream archive verify session.mcap
  slstream archive verify session.mcap --json
"""

_type_of_path = click.Path(path_type=Path)
_json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON object instead."
)


@click.group("archive", epilog=EPILOG)
def command() -> None:
    """Keep a session in one file, and check such files.

    An archive is an MCAP file with the frames of all links, the schemas, and a manifest with
    digests. It needs no log to be read.
    """


@command.command("export")
@click.argument("session")
@click.argument("path", metavar="FILE", type=_type_of_path)
@click.option(
    "--dir", "directory", metavar="DIR", type=_type_of_path, help="The run whose log is read."
)
@click.option("--log", "log_url", metavar="URL", help="The log, where it is not in a run's folder.")
@click.option(
    "--federation",
    metavar="NAME",
    help="Needed only when several federations in the log have a session of this name.",
)
@click.option("--force", is_flag=True, help="Replace FILE when it exists.")
@_json_option
def export(
    session: str,
    path: Path,
    directory: Path | None,
    log_url: str | None,
    federation: str | None,
    force: bool,
    as_json: bool,
) -> None:
    """Write a SESSION of a log to FILE, and verify it.

    The log is only read. FILE appears when it is whole. Say with --dir or --log where the log is.
    """
    if (directory is None) == (log_url is None):
        raise click.UsageError("say where the log is: either --dir DIR or --log URL")

    from slstream.archive.export import export_session
    from slstream.transport.connect import embedded_url, open_transport

    url = log_url if directory is None else embedded_url(directory / "log")

    async def run() -> ArchiveReport:
        async with await open_transport(url or "", read_only=True) as transport:
            return await export_session(
                transport, session, path, federation=federation, force=force
            )

    _show(asyncio.run(run()), path, as_json=as_json)


@command.command("verify")
@click.argument("path", metavar="FILE", type=_type_of_path)
@_json_option
def verify(path: Path, as_json: bool) -> None:
    """Check every byte and every record of the archive FILE.

    Exits with 1 on any damage. A digest finds damage, not forgery: compare it with that of a copy
    which you trust.
    """
    from slstream.archive.verification import verify as verify_archive

    _show(verify_archive(path), path, as_json=as_json)


def _show(report: ArchiveReport, path: Path, *, as_json: bool) -> None:
    if as_json:
        click.echo(report.to_json())
        return
    from slstream.cli.archive_table import archive_table
    from slstream.cli.terminal import result_console

    result_console().print(archive_table(report, path))
