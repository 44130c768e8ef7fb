"""``slstream health``: whether the parties of a folder are alive, for who runs containers."""

from __future__ import annotations

from pathlib import Path

import click

from slstream.cli.exit_code import ExitCode

EPILOG = """\b
Example, in a Dockerfile:
  HEALTHCHECK CMD ["slstream", "health", "--dir", "/data"]

\b
Exit status: 0 every party that runs there is alive; 1 one is not, or none runs.
"""


@click.command("health", epilog=EPILOG)
@click.option(
    "--dir",
    "directory",
    metavar="DIR",
    type=click.Path(path_type=Path),
    required=True,
    help="The folder that was given to the party.",
)
@click.option(
    "--within",
    "within_s",
    metavar="SECONDS",
    type=click.FloatRange(min=0, min_open=True),
    default=30.0,
    show_default=True,
    help="How long ago a party may have shown its last sign of life.",
)
def command(directory: Path, within_s: float) -> ExitCode:
    """Tell whether the parties that run in DIR are alive: their event loops turn.

    Nothing else is asked. A party that waits for a peer or for a broker is alive: starting it again
    would not help. Looks at files only, and takes a fraction of a second.
    """
    from slstream.cli.heartbeat import ages_s

    ages = ages_s(directory)
    if not ages:
        found = "" if directory.is_dir() else ", as there is no such folder"
        click.echo(f"error: no party runs in {directory}{found}", err=True)
        return ExitCode.FAILED
    for party, age_s in sorted(ages.items()):
        click.echo(f"{party}: last sign of life {age_s:.0f} s ago")
    return ExitCode.OK if max(ages.values()) <= within_s else ExitCode.FAILED
