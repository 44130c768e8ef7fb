"""``slstream bench``: measurements, each a table or one JSON object."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import click

from slstream.bench.report import Report
from slstream.bench.shaped_link import Link, parse_duration, parse_rate
from slstream.cli.exit_code import ExitCode
from slstream.errors import ConfigError

EPILOG = """\b
Examples:
  slstream bench step
  slstream bench transport --json
  slstream bench accuracy topology/breast-cancer.yaml --seeds 5
  slstream bench train topology/digits.yaml --link 100mbit --rtt 50ms

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


class _Text(click.ParamType[float]):
    """Text that a parser takes, which says itself what it expected."""

    def __init__(self, name: str, parse: Callable[[str], float]) -> None:
        self.name = name
        self._parse = parse

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Parse it."""
        if isinstance(value, float):
            return value
        try:
            return self._parse(str(value))
        except ConfigError as error:
            self.fail(str(error), param, ctx)


_rate, _duration = _Text("rate", parse_rate), _Text("duration", parse_duration)


@command.command("train")
@click.argument("topology_path", metavar="TOPOLOGY", type=click.Path(path_type=Path))
@click.option("--link", "rate_bps", type=_rate, required=True, help="Each way: 100mbit, 1.5gbit.")
@click.option("--rtt", "rtt_s", type=_duration, default=0.0, help="There and back: 50ms.")
@click.option("--jitter", "jitter_s", type=_duration, default=0.0, help="Each way, at most: 5ms.")
@click.option("--cut-every", "cut_every_s", type=_duration, help="Cut the links this often: 30s.")
@click.option("--cut-for", "cut_for_s", type=_duration, default=0.0, help="So long each time: 1s.")
@click.option(
    "--codec",
    "codecs",
    metavar="CHAIN",
    multiple=True,
    help="Codecs as YAML, for both directions or as {forward: ..., backward: ...}, or adaptive; "
    "given several times, each is compared.  [default: the topology's]",
)
@click.option(
    "--schedule",
    metavar="SCHEDULE",
    help="Of the compressed training, as YAML: {name: pipeline, pipeline_size: 4}.  "
    "[default: the topology's]",
)
@click.option(
    "--target",
    type=float,
    help="Of the first metric.  [default: 0.3 points below the best uncompressed one of the seed]",
)
@click.option(
    "--seeds", type=click.IntRange(min=1), default=3, show_default=True, help="Paired runs."
)
@_transport_option
@click.option(
    "--plot",
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False),
    help="Draw metric over time, ratio against metric, and bytes of a step.",
)
@click.option(
    "--set",
    "overrides",
    metavar="KEY.PATH=VALUE",
    multiple=True,
    help="Change the topology before it is checked, for all runs. Repeatable.",
)
@_prints_report
def train(
    topology_path: Path,
    overrides: tuple[str, ...],
    rate_bps: float,
    rtt_s: float,
    jitter_s: float,
    cut_every_s: float | None,
    cut_for_s: float,
    **choices: Any,
) -> Report:
    """Train through slow links, with compression and without.

    Reports the time to a target metric, and bytes and accuracy. Uncompressed is raw32 both ways,
    one batch at a time. Each feature party has a link of its own to the log.
    """
    from slstream.bench.train import run
    from slstream.topology import Topology

    link = Link(
        rate_bps=rate_bps,
        rtt_s=rtt_s,
        jitter_s=jitter_s,
        cut_every_s=cut_every_s,
        cut_for_s=cut_for_s,
    )
    return run(Topology.load(topology_path, overrides), link=link, **choices)


@command.command("adaptive")
@click.option(
    "--seeds",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Runs of each codec on each link; the median counts.",
)
@_prints_report
def adaptive(seeds: int) -> Report:
    """Compare the adaptive choice of codecs with every static one.

    On five links from 10 Mbit/s to 10 Gbit/s, and while a link's rate changes by a factor of 10.
    Takes about 20 minutes.
    """
    from slstream.bench.adaptive import run

    return run(seeds=seeds)


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
