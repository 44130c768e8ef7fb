"""``slstream bench``: measurements, each a table or one JSON object."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path

import click

from slstream.bench.report import Report
from slstream.cli.exit_code import ExitCode

EPILOG = """\b
Examples:
  slstream bench step
  slstream bench transport --json
  slstream bench accuracy topology/breast-cancer.yaml --seeds 5

\b
With --json, each prints one object:
  {"bench", "environment", "results": [{"name", "value", "unit", "target", "holds"}]}
"""


@click.group("bench", epilog=EPILOG)
def command() -> None:
    """Measure accuracy, overhead, codecs and transports on this machine.

    A missed target is shown; it fails the command only with --check.
    """


def _prints_report(measure: Callable[..., Report]) -> Callable[..., None]:
    """Make a command of a function that returns a report: options, output, exit status."""

    @click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead.")
    @click.option("--check", is_flag=True, help="Exit with 1 when a target is missed.")
    @wraps(measure)
    def measure_and_print(*, as_json: bool, check: bool, **own: object) -> None:
        report = measure(**own)
        if as_json:
            click.echo(report.to_json())
        else:
            from slstream.cli.report_table import report_table
            from slstream.cli.terminal import result_console

            result_console().print(report_table(report))
        if check and any(result.holds is False for result in report.results):
            sys.exit(ExitCode.FAILED)

    return measure_and_print


_transport_option = click.option(
    "--transport",
    "transport_url",
    metavar="URL",
    help="Measure this transport.  [default: embedded, in a temporary directory]",
)


@command.command("accuracy")
@click.argument("topology_path", metavar="TOPOLOGY", type=click.Path(path_type=Path))
@click.option(
    "--seeds", type=click.IntRange(min=2), default=5, show_default=True, help="Paired runs."
)
@click.option(
    "--set",
    "overrides",
    metavar="KEY.PATH=VALUE",
    multiple=True,
    help="Change the topology before it is checked: parties.bob.data.path=b.csv. Repeatable.",
)
@_prints_report
def accuracy(topology_path: Path, seeds: int, overrides: tuple[str, ...]) -> Report:
    """Compare metric and bytes with an uncompressed run.

    Trains each seed twice, with and without compression, and reports the mean difference.
    """
    from slstream.bench.accuracy import run
    from slstream.topology import Topology

    return run(Topology.load(topology_path, overrides), seeds=seeds)


@command.command("step")
@_transport_option
@click.option(
    "--steps", type=click.IntRange(min=10), default=200, show_default=True, help="Steps to time."
)
@_prints_report
def step(transport_url: str | None, steps: int) -> Report:
    """Time a step, and the same step in one process.

    The difference is what splitting costs; it is shown part by part.
    """
    from slstream.bench.step import run

    return run(transport_url=transport_url, steps=steps)


@command.command("codecs")
@_prints_report
def codecs() -> Report:
    """Measure speed, size and error of every codec.

    On one core, beside memcpy and torch's casts in the same run.
    """
    from slstream.bench.codecs import run

    return run()


@command.command("transport")
@_transport_option
@click.option(
    "--durability",
    type=click.Choice(["checkpoint", "step"]),
    default="checkpoint",
    show_default=True,
    help="When an append counts as sent.",
)
@_prints_report
def transport(transport_url: str | None, durability: str) -> Report:
    """Measure throughput and latency of a transport.

    Between two processes, beside a plain append to a file in the same run.
    """
    from slstream.bench.transport import run
    from slstream.transport.contract import Durability

    return run(url=transport_url, durability=Durability(durability))


@command.command("recovery")
@click.option(
    "--steps", type=click.IntRange(min=200), default=1500, show_default=True, help="Of each run."
)
@_prints_report
def recovery(steps: int) -> Report:
    """Measure how soon a killed party goes on.

    Also how fast it computes again what the log holds, and what checkpoints cost.
    """
    from slstream.bench.recovery import run
    from slstream.cli.log_output import LogFormat, logs_to
    from slstream.cli.terminal import message_console

    # That parties are killed is no news here.
    with logs_to(message_console(), level="error", log_format=LogFormat.TEXT):
        return run(steps=steps)
