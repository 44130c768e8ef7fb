"""``slstream run``: every party of a federation, on this machine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import click

from slstream.cli.progress import Focus
from slstream.cli.run_directory import new_run_directory
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
Examples:
  slstream run topology/breast-cancer.yaml
  slstream run my.yaml --dir runs/first --set training.epochs=3 --set seed=7
  slstream run my.yaml --dir runs/first    # again: goes on when it was interrupted
  slstream run my.yaml --quiet --json > summary.json

\b
Files of a run, under DIR:
  log/                       what crossed between the parties
  PARTY/model.safetensors    the party's final weights
  PARTY/scaling.json         what was done to its columns before
  PARTY/checkpoints/         what it needs to go on after a crash
  PARTY/log.txt              what its process said
  summary.json               all that the table at the end shows
"""


@click.command("run", epilog=EPILOG)
@click.argument("topology_path", metavar="TOPOLOGY", type=type_of_path)
@click.option(
    "--dir",
    "directory",
    metavar="DIR",
    type=type_of_folder,
    help="Where the files of this run go.  [default: runs/FEDERATION-N, a new one]",
)
@click.option(
    "--baseline/--no-baseline",
    default=True,
    show_default=True,
    help="Train the same model in one process without compression too, and compare.",
)
@click.option(
    "--restarts",
    type=click.IntRange(min=0),
    help="How often each party that was killed is started again.  [default: 10]",
)
@click.option(
    "--new",
    "begin_new",
    is_flag=True,
    help="Give the unfinished session of DIR up and begin a new one.",
)
@session_options
def command(
    topology_path: Path,
    baseline: bool,
    restarts: int | None,
    begin_new: bool,
    options: SessionOptions,
) -> None:
    """Train the federation of a TOPOLOGY file: one process per party, on this machine.

    Shows progress while it runs and ends with a summary: validation metrics, bytes by direction
    and codec, and where the time went. A run that was interrupted goes on when it is called again
    with the same --dir.
    """
    from slstream.topology import Topology

    topology = Topology.load(topology_path, options.overrides)
    directory = options.directory or new_run_directory(topology.federation)

    focus = Focus(party=topology.label_party.id, metric=topology.metrics[0])

    def take_part(on_progress: Callable[[Progress], None]) -> Summary:
        from slstream.supervisor import RESTARTS, run

        return run(
            topology,
            directory=directory,
            on_progress=on_progress,
            baseline=baseline,
            begin_new=begin_new,
            restarts=RESTARTS if restarts is None else restarts,
        )

    show_session(take_part, focus=focus, directory=directory, options=options)
