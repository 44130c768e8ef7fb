"""``slstream archive``: keep a session in one file, and check such files."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import click

from slstream.cli.replay_command import ReplayOptions, replay_and_show, replay_options
from slstream.cli.session_command import type_of_path
from slstream.errors import ConfigError, TransportError

if TYPE_CHECKING:
    from slstream.archive.verification import ArchiveReport

EPILOG = """\b
Examples:
  slstream archive export 20260131-101500-7f3a2b session.mcap --dir runs/credit-1
  slstream archive verify session.mcap
  slstream archive verify session.mcap --json
  slstream archive replay session.mcap --party bob --topology credit.yaml
"""

_json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON object instead."
)


@click.group("archive", epilog=EPILOG)
def command() -> None:
    """Keep a session in one file, check such files, and replay them.

    An archive is an MCAP file with the frames of all links, the schemas, and a manifest with
    digests. It needs no log to be read.
    """


@command.command("export")
@click.argument("session")
@click.argument("path", metavar="FILE", type=type_of_path)
@click.option("--dir", "directory", metavar="DIR", type=type_of_path, help="The files of a run.")
@click.option(
    "--log", "log_url", metavar="URL", help="The log itself: embedded:///folder or kafka://host."
)
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

    SESSION is an id (see `slstream sessions`) or `latest`.
    Without DIR or URL, the session is looked for in all runs in runs/ that have their log there.
    The log is only read; FILE appears when it is whole.
    """
    from slstream.cli.log_place import log_urls

    urls = log_urls(directory, log_url, None)
    report = asyncio.run(_export(urls, session, path, federation, force=force))
    _show(report, path, as_json=as_json)


async def _export(
    urls: list[str], session: str, path: Path, federation: str | None, *, force: bool
) -> ArchiveReport:
    """Export from the first log that has the session; the newest is looked at first."""
    from slstream.archive.export import export_session, federations_of, newest_session
    from slstream.cli.log_place import pass_over
    from slstream.transport.connect import open_transport

    for url in reversed(urls):
        async with AsyncExitStack() as stack:
            try:
                opened = await open_transport(url, read_only=True)
                log = await stack.enter_async_context(opened)
                name: str | None = session
                if session == "latest":
                    name = await newest_session(log, wanted=federation)
                found = name and await federations_of(log, name, wanted=federation)
            except TransportError as error:
                pass_over(url, error, of=urls)
                continue
            if name and found:
                return await export_session(log, name, path, federation=federation, force=force)
    raise ConfigError(
        f"session {session}: expected it in {', '.join(urls)}, found no such; "
        "`slstream sessions` lists those that are there"
    )


@command.command("verify")
@click.argument("path", metavar="FILE", type=type_of_path)
@_json_option
def verify(path: Path, as_json: bool) -> None:
    """Check every byte and every record of the archive FILE.

    Exits with 1 on any damage. A digest finds damage, not forgery: compare it with that of a copy
    which you trust.
    """
    from slstream.archive.verification import verify as verify_archive

    _show(verify_archive(path), path, as_json=as_json)


@command.command("replay")
@click.argument("path", metavar="FILE", type=type_of_path)
@click.option(
    "--topology",
    "topology_path",
    metavar="TOPOLOGY",
    type=type_of_path,
    required=True,
    help="The session's federation file.",
)
@replay_options
def replay(*, path: Path, topology_path: Path, options: ReplayOptions) -> None:
    """Verify the archive FILE, then compute one party again from it and compare every frame.

    As `slstream replay`, without a log: the party's own data and code must be at hand.
    """
    from slstream.archive.transport import ArchiveTransport
    from slstream.archive.verification import verify as verify_archive
    from slstream.topology import Topology

    verify_archive(path)
    replay_and_show(
        lambda: ArchiveTransport.open(path),
        Topology.load(topology_path, options.overrides),
        session="latest",
        begin=None,
        directory=None,
        options=options,
    )


def _show(report: ArchiveReport, path: Path, *, as_json: bool) -> None:
    if as_json:
        click.echo(report.to_json())
        return
    from slstream.cli.archive_table import archive_table
    from slstream.cli.terminal import result_console

    result_console().print(archive_table(report, path))
