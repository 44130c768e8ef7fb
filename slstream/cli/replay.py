"""``slstream replay``: one party of a session, computed again from the log."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from pathlib import Path

import click

from slstream.cli.place import Place, PlaceType
from slstream.cli.replay_command import ReplayOptions, replay_and_show, replay_options
from slstream.cli.session_command import type_of_path
from slstream.errors import ConfigError
from slstream.topology.topology import Topology
from slstream.transport.contract import Transport

EPILOG = """\b
Examples:
  slstream replay latest --party bob --dir runs/credit-1
  slstream replay 20260131-101500-7f3a2b --party bob --dir runs/credit-1 --from 3 --to 4
  slstream replay latest --party alice --dir runs/credit-1 --dump 2/17 step.safetensors
  slstream replay latest --party bob --dir runs/credit-1 --model lost-and-found
  slstream replay latest --party bob --dir runs/credit-1 --tolerant --bound 0.01

\b
Exit status:
  0  every frame that was compared has the same bits; with --tolerant: within the bound
  1  a frame differs: the message names the first; with --tolerant: the bound was exceeded
  3  this is another environment than the session's, so equal bits cannot be demanded
"""


@click.command("replay", epilog=EPILOG)
@click.argument("session")
@click.option("--dir", "directory", metavar="DIR", type=type_of_path, help="The files of the run.")
@click.option("--log", "url", metavar="URL", help="The log itself, when it is not in DIR.")
@click.option(
    "--topology",
    "topology_path",
    metavar="TOPOLOGY",
    type=type_of_path,
    help="The session's federation file.  [default: DIR/topology.json]",
)
@click.option(
    "--from",
    "begin",
    metavar="EPOCH[/STEP]",
    type=PlaceType(),
    help="Begin at the checkpoint after that many epochs (and steps of the next).",
)
@replay_options
def command(
    *,
    session: str,
    directory: Path | None,
    url: str | None,
    topology_path: Path | None,
    begin: Place | None,
    options: ReplayOptions,
) -> None:
    """Compute one party of a SESSION again from the log alone, and compare every frame.

    SESSION is an id (see `slstream sessions`) or `latest`. The party's own data and code must be
    at hand; its peers, and a network, are not needed. Nothing is written but what --dump and
    --model ask for.
    """
    from slstream.topology import Topology

    if topology_path is None:
        if directory is None:
            raise ConfigError("which session? give the run's --dir, or --topology with --log")
        topology_path = directory / "topology.json"
        if not topology_path.exists():
            raise ConfigError(
                f"expected {topology_path}, which `slstream run` writes, found none: name the "
                "session's federation file with --topology"
            )
    topology = Topology.load(topology_path, options.overrides)
    replay_and_show(
        lambda: _log(url, directory, topology),
        topology,
        session=session,
        begin=begin,
        directory=directory,
        options=options,
    )


async def _log(
    url: str | None, directory: Path | None, topology: Topology
) -> AbstractAsyncContextManager[Transport]:
    from slstream.party.address import log_url
    from slstream.transport.connect import open_transport

    if url is None:
        if directory is None and topology.transport is None:
            raise ConfigError("where is the log? give the run's --dir, or --log")
        url = log_url(topology, (directory or Path()).absolute())
    return await open_transport(url, read_only=True)
