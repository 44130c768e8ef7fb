"""``slstream sessions``: what a log holds."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click
from pydantic import JsonValue

from slstream.cli.exit_code import ExitCode
from slstream.cli.session_command import type_of_path
from slstream.errors import TransportError

if TYPE_CHECKING:
    from slstream.audit.session_list import ListedSession

EPILOG = """\b
Examples:
  slstream sessions
  slstream sessions --dir runs/breast-cancer-1
  slstream sessions topology/breast-cancer.yaml --json
  slstream sessions --log embedded:///srv/slstream/log
  slstream sessions --log kafka://host:9092

\b
States:
  finished, stopped early, failed, abandoned   as the label party said
  interrupted     it can be continued: start its parties again
  unfinished      it runs, or waits for a party to come back
  unannounced     there are links, but the lobby does not name it

\b
With --json, prints one object:
  {"logs": [{"log", "sessions": [{"federation", "session", "state", ...}]}]}
"""


@click.command("sessions", epilog=EPILOG)
@click.argument("topology_path", metavar="[TOPOLOGY]", type=type_of_path, required=False)
@click.option("--dir", "directory", metavar="DIR", type=type_of_path, help="The files of a run.")
@click.option(
    "--log", "url", metavar="URL", help="The log itself: embedded:///folder or kafka://host."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead.")
def command(
    topology_path: Path | None, directory: Path | None, url: str | None, as_json: bool
) -> None:
    """List the sessions of a log: state, parties, progress and bytes.

    Without DIR or URL, those of all runs in runs/ that have their log there; with a TOPOLOGY, only
    those of its federation.
    Reads the whole log, and changes nothing; a session may run meanwhile. Where one of several logs
    cannot be read, the others are listed, and the exit status is 1.
    """
    from slstream.cli.log_place import log_urls, pass_over
    from slstream.topology import Topology

    topology = None if topology_path is None else Topology.load(topology_path)
    federation = None if topology is None else topology.federation
    urls = log_urls(directory, url, topology)
    found = {}
    for each in urls:
        try:
            found[each] = asyncio.run(_sessions(each, federation))
        except TransportError as error:
            pass_over(each, error, of=urls)
    _show(found, as_json=as_json)
    if len(found) < len(urls):
        sys.exit(ExitCode.FAILED)


def _show(found: Mapping[str, Sequence[ListedSession]], *, as_json: bool) -> None:
    if as_json:
        logs = [
            {"log": each, "sessions": [_document(session) for session in sessions]}
            for each, sessions in found.items()
        ]
        click.echo(json.dumps({"logs": logs}))
        return
    from slstream.cli.session_list_table import session_list_table
    from slstream.cli.terminal import result_console

    console = result_console()
    for place, (each, sessions) in enumerate(found.items()):
        if place:
            console.print()
        console.print(session_list_table(sessions, each))


async def _sessions(url: str, federation: str | None) -> tuple[ListedSession, ...]:
    from slstream.audit.session_list import list_sessions
    from slstream.transport.connect import open_transport

    async with await open_transport(url, read_only=True) as log:
        return await list_sessions(log, federation=federation)


def _document(session: ListedSession) -> dict[str, JsonValue]:
    return {
        "federation": session.federation,
        "session": session.session,
        "state": session.state,
        "reason": session.reason,
        "parties": list(session.parties),
        "epochs": session.epochs,
        "epoch": session.epoch,
        "steps": session.steps,
        "frames": session.frames,
        "wire_bytes": session.wire_bytes,
        "started_ms": session.started_ms,
        "last_ms": session.last_ms,
        "incarnations": dict(session.incarnations),
        "duplicates": session.duplicates,
        "fenced": session.fenced,
        "abandoned": session.abandoned,
        "divergences": dict(session.divergences),
        "problems": list(session.problems),
        "links": [
            {
                "sender": tally.link.sender,
                "receiver": tally.link.receiver,
                "records": tally.records,
                "frames": tally.frames,
                "wire_bytes": tally.wire_bytes,
                "incarnations": len(tally.incarnations),
                "fences": tally.fences,
                "duplicates": tally.duplicates,
                "fenced": tally.fenced,
                "abandoned": tally.abandoned,
                "problem": tally.problem,
            }
            for tally in session.links
        ],
    }
