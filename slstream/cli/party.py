"""``slstream party``: one party alone, as a container runs it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import click

from slstream.cli.heartbeat import beating
from slstream.cli.progress import Focus
from slstream.cli.run_directory import shared_directory
from slstream.cli.session_command import (
    SessionOptions,
    session_options,
    show_session,
    type_of_folder,
    type_of_path,
)
from slstream.party.summary import Summary
from slstream.party.telemetry import Progress

EPILOG = """\b
Examples, one line per terminal, in any order:
  slstream party alice --topology topology/breast-cancer.yaml
  slstream party bob   --topology topology/breast-cancer.yaml
  slstream party carol --topology topology/breast-cancer.yaml
"""


@click.command("party", epilog=EPILOG)
@click.argument("name")
@click.option(
    "--topology",
    "topology_path",
    metavar="TOPOLOGY",
    type=type_of_path,
    required=True,
    help="The federation file; all parties use the same.",
)
@click.option(
    "--dir",
    "directory",
    metavar="DIR",
    type=type_of_folder,
    help="Where the files go; the parties of one machine share it.  [default: runs/FEDERATION]",
)
@click.option(
    "--new",
    "begin_new",
    is_flag=True,
    help="Give an unfinished session up and begin a new one; for the label party.",
)
@session_options
def command(name: str, topology_path: Path, begin_new: bool, options: SessionOptions) -> None:
    """Run the party NAME alone; the session begins when the others have joined.

    The parties find each other through the log: with the embedded transport in DIR/log, otherwise
    at the topology's transport address.
    """
    from slstream.topology import Topology

    topology = Topology.load(topology_path, options.overrides)
    directory = options.directory or shared_directory(topology.federation)

    focus = Focus(party=name, metric=topology.metrics[0])

    def take_part(on_progress: Callable[[Progress], None]) -> Summary:
        from slstream.party.runtime import PartyRuntime

        runtime = PartyRuntime(name, topology, directory, on_progress, begin_new=begin_new)
        return asyncio.run(beating(directory / name, runtime.run()))

    show_session(take_part, focus=focus, directory=directory, options=options, party=name)
