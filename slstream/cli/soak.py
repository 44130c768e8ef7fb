"""``slstream soak``: does killing parties change what they learn?"""

from __future__ import annotations

import sys
from pathlib import Path

import click

from slstream.cli.exit_code import ExitCode
from slstream.cli.log_output import logs_to
from slstream.cli.run_directory import new_run_directory
from slstream.cli.session_command import (
    SessionOptions,
    session_options,
    type_of_folder,
    type_of_path,
)
from slstream.cli.terminal import message_console, result_console

EPILOG = """\b
Examples:
  slstream soak topology/breast-cancer.yaml --kills 20 --seed 1
  slstream soak my.yaml --kills 200 --set training.epochs=50 --json

\b
Files, under DIR:
  undisturbed/    the run of nobody's interference
  disturbed/      the run in which parties were killed

\b
With --json, prints one object:
  {"bench": "soak", "environment", "results": [{"name", "value", "unit", "target", "holds"}]}
"""


@click.command("soak", epilog=EPILOG)
@click.argument("topology_path", metavar="TOPOLOGY", type=type_of_path)
@click.option(
    "--kills", type=click.IntRange(min=1), default=20, show_default=True, help="How many SIGKILLs."
)
@click.option(
    "--seed",
    type=click.IntRange(min=0, max=2**64 - 1),
    metavar="NUMBER",
    default=1,
    show_default=True,
    help="Of the choice of kills.",
)
@click.option(
    "--dir",
    "directory",
    metavar="DIR",
    type=type_of_folder,
    help="Where the files of both runs go.  [default: runs/FEDERATION-soak-N, a new one]",
)
@session_options
def command(topology_path: Path, kills: int, seed: int, options: SessionOptions) -> None:
    """Train the federation of a TOPOLOGY file twice, and kill its parties the second time.

    One party at a time, all at once, or one while it writes a checkpoint, at places in the log that
    the seed chooses. Exits with 1 unless both runs end with the same weights, each step's frames
    stand exactly once, and no frame was recomputed differently.
    """
    from slstream.cli.report_table import report_table
    from slstream.cli.soak_report import soak_report
    from slstream.soak.trial import run
    from slstream.topology import Topology

    topology = Topology.load(topology_path, options.overrides)
    directory = options.directory or new_run_directory(f"{topology.federation}-soak")
    with logs_to(message_console(), level=options.log_level, log_format=options.log_format):
        trial = run(topology, kills=kills, seed=seed, directory=directory)
    report = soak_report(trial, seed=seed)
    if options.as_json:
        click.echo(report.to_json())
    elif not options.quiet:
        result_console().print(report_table(report))
    if any(result.holds is False for result in report.results):
        sys.exit(ExitCode.FAILED)
