"""Which logs a command that only reads is about."""

from __future__ import annotations

from pathlib import Path

import click

from slstream.cli.printable import printable
from slstream.cli.run_directory import RUNS, shared_directory
from slstream.errors import ConfigError, TransportError
from slstream.topology.topology import Topology
from slstream.transport.connect import embedded_url


def log_urls(
    directory: Path | None, url: str | None, topology: Topology | None, *, under: Path = RUNS
) -> list[str]:
    """URLs of the logs that the options of a command name, oldest run first.

    Args:
        directory: of a run.
        url: of a log.
        topology: says where its log is, unless that is in a run's directory.
        under: where runs go when the user did not say; without any option, all logs there, not
            those elsewhere, whose brokers may be gone. With a topology, those of its federation, as
            ``run`` and ``party`` name them.

    Raises:
        UsageError: both a directory and a URL.
        ConfigError: there is no log in the directory, or under ``under``.
    """
    if url is not None:
        if directory is not None:
            raise click.UsageError("expected --dir or --log, found both")
        return [url]
    if topology is not None and topology.transport is not None:
        return [topology.transport]
    if directory is not None:
        return [_log_of(directory)]
    runs = [path.parent for path in under.glob("*/log") if path.is_dir()]
    if topology is not None:
        runs = [run for run in runs if _is_of(run, topology.federation, under)]
    if not runs:
        wanted = "a run" if topology is None else f"a run of {topology.federation}"
        raise ConfigError(
            f"expected {wanted} with its log in {under}/, found none; name a run's directory with "
            "--dir, or a log with --log"
        )
    runs.sort(key=lambda run: ((run / "log").stat().st_mtime, run))
    return [embedded_url(run / "log") for run in runs]


def pass_over(url: str, error: TransportError, *, of: list[str]) -> None:
    """Tell that a log cannot be read, for a command that goes on to the others.

    Args:
        url: of the log.
        error: why.
        of: all logs that the command is about.

    Raises:
        TransportError: it is the only one, such as one that the user named.
    """
    if len(of) == 1:
        raise error
    click.echo(f"error: {printable(f'{url}: {error}')}", err=True)


def _log_of(run: Path) -> str:
    """Where the log of a run is: in its directory, unless its topology says where else."""
    document = run / "topology.json"
    if document.is_file() and (url := Topology.load(document).transport) is not None:
        return url
    if not (run / "log").is_dir():
        raise ConfigError(
            "expected the directory of a run, with a folder 'log' in it or a topology.json that "
            f"says where the log is, found {run}; name a run's directory with --dir, or its log "
            "with --log"
        )
    return embedded_url(run / "log")


def _is_of(run: Path, federation: str, under: Path) -> bool:
    """Whether a run's directory has one of the names that runs of a federation get."""
    shared = shared_directory(federation, under=under).name
    number = run.name.removeprefix(f"{shared}-")
    return run.name == shared or (number != run.name and number.isdecimal())
