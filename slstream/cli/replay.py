"""``slstream replay``: one party of a session, computed again from the log."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

import click

from slstream.cli.exit_code import ExitCode
from slstream.cli.session_command import type_of_path
from slstream.errors import ConfigError

if TYPE_CHECKING:
    from rich.console import Console

    from slstream.audit.replay import ReplayReport, ReplayRequest
    from slstream.audit.tensor_dump import TensorDump
    from slstream.topology.topology import Topology

DEFAULT_BOUND = 0.05

EPILOG = """\b
Examples:
  slstream replay latest --party bob --dir runs/credit-1
  slstream replay 20260131-101500-7f3a2b --party bob --dir runs/credit-1 --from 3 --to 4
  slstream replay latest --party alice --dir runs/credit-1 --dump 2/17 step.safetensors
  slstream replay latest --party bob --dir runs/credit-1 --tolerant --bound 0.01

\b
Exit status:
  0  every frame that was compared has the same bits; with --tolerant: within the bound
  1  a frame differs: the message names the first; with --tolerant: the bound was exceeded
  3  this is another environment than the session's, so equal bits cannot be demanded
"""


class _Place(click.ParamType[tuple[int, int | None]]):
    """EPOCH or EPOCH/STEP."""

    name = "place"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int | None]:
        """Parse it."""
        match = re.fullmatch(r"(\d{1,9})(?:/(\d{1,9}))?", str(value))
        if match is None:
            self.fail(
                f"expected EPOCH or EPOCH/STEP such as 3 or 3/17, found {value!r}", param, ctx
            )
        epoch, step = match.groups()
        return int(epoch), None if step is None else int(step)


@click.command("replay", epilog=EPILOG)
@click.argument("session")
@click.option("--party", "name", required=True, help="Whose part to compute again.")
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
    "--set",
    "overrides",
    metavar="KEY.PATH=VALUE",
    multiple=True,
    help="Change the topology, for instance parties.bob.data.path. Repeatable.",
)
@click.option(
    "--from",
    "begin",
    metavar="EPOCH[/STEP]",
    type=_Place(),
    help="Begin at the checkpoint after that many epochs (and steps of the next).",
)
@click.option(
    "--to", "until", metavar="EPOCH[/STEP]", type=_Place(), help="Stop after this epoch or step."
)
@click.option("--tolerant", is_flag=True, help="Measure how far tensors deviate, within a bound.")
@click.option(
    "--bound",
    type=click.FloatRange(min=0.0, min_open=False),
    help=f"Largest relative deviation of a tensor with --tolerant.  [default: {DEFAULT_BOUND}]",
)
@click.option(
    "--dump",
    metavar="EPOCH/STEP FILE",
    type=(_Place(), type_of_path),
    help="Write the tensors that cross the cut in this step as safetensors.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead.")
def command(
    *,
    session: str,
    name: str,
    directory: Path | None,
    url: str | None,
    topology_path: Path | None,
    overrides: tuple[str, ...],
    begin: tuple[int, int | None] | None,
    until: tuple[int, int | None] | None,
    tolerant: bool,
    bound: float | None,
    dump: tuple[tuple[int, int | None], Path] | None,
    as_json: bool,
) -> None:
    """Compute one party of a SESSION again from the log alone, and compare every frame.

    SESSION is an id (see `slstream sessions`) or `latest`. The party's own data and code must be
    at hand; its peers, and a network, are not needed. Nothing is written.
    """
    from slstream.audit.comparison import StepRange
    from slstream.audit.replay import EnvironmentDiffers, ReplayRequest
    from slstream.cli.terminal import message_console
    from slstream.topology import Topology

    if bound is not None and not tolerant:
        raise click.UsageError("--bound belongs to --tolerant")
    if dump is not None and dump[0][1] is None:
        raise click.UsageError("--dump: expected EPOCH/STEP, such as 3/17")
    topology = Topology.load(_topology_path(topology_path, directory), overrides)
    request = ReplayRequest(
        session=session,
        party=name,
        begin=None if begin is None else (begin[0], begin[1] or 0),
        until=StepRange() if until is None else StepRange(epoch=until[0], step=until[1]),
        bound=(DEFAULT_BOUND if bound is None else bound) if tolerant else None,
        dump=None if dump is None else (dump[0][0], dump[0][1] or 0),
    )
    try:
        with _progress(message_console(), name) as on_frame:
            report, tensors = asyncio.run(_replay(request, topology, url, directory, on_frame))
    except EnvironmentDiffers as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(ExitCode.OTHER_ENVIRONMENT)
    if dump is not None:
        tensors.write(dump[1])
    if as_json:
        click.echo(json.dumps(asdict(report) | {"holds": report.holds}))
    else:
        click.echo("\n".join(_lines(report)))
    if not report.holds:
        sys.exit(ExitCode.FAILED)


def _topology_path(path: Path | None, directory: Path | None) -> Path:
    if path is not None:
        return path
    if directory is None:
        raise ConfigError("which session? give the run's --dir, or --topology with --log")
    return directory / "topology.json"


async def _replay(
    request: ReplayRequest,
    topology: Topology,
    url: str | None,
    directory: Path | None,
    on_frame: Callable[[str], None],
) -> tuple[ReplayReport, TensorDump]:
    from slstream.audit.replay import replay
    from slstream.party.address import log_url
    from slstream.transport.connect import open_transport

    if url is None:
        if directory is None and topology.transport is None:
            raise ConfigError("where is the log? give the run's --dir, or --log")
        url = log_url(topology, (directory or Path()).absolute())
    async with await open_transport(url, read_only=True) as log:
        return await replay(request, topology, log, directory=directory, on_frame=on_frame)


@contextmanager
def _progress(console: Console, party: str) -> Iterator[Callable[[str], None]]:
    """A line that changes on a terminal, or else a line now and then."""
    every_s = 0.1 if console.is_terminal else 5.0
    told_at = monotonic()
    with console.status(f"replaying {party}") as status:

        def on_frame(frame: str) -> None:
            nonlocal told_at
            if monotonic() - told_at < every_s:
                return
            told_at = monotonic()
            if console.is_terminal:
                status.update(f"replaying {party}: {frame}")
            else:
                console.print(f"replaying {party}: {frame}")

        yield on_frame


def _lines(report: ReplayReport) -> Iterator[str]:
    """The report for people."""
    demanded = "equal bits" if report.exact else f"deviations of at most {report.bound:g}"
    yield f"Replayed {report.party} of session {report.session}, demanding {demanded}."
    yield (
        f"{report.frames} frames were computed and compared, up to {report.stopped}; "
        f"{report.equal_frames} have the same bits."
    )
    if report.frames:
        yield f"The last one compared: {report.last_frame}."
    if report.weights is not None:
        same = " (the same as in the log)" if report.exact else ""
        yield f"Final weights: sha256 {report.weights}{same}"
    for difference in report.environment_differences:
        yield f"Another environment: {difference}"
    for text in report.differing_messages:
        yield f"Differs: {text}"
    worst = report.largest_deviation
    if worst is not None:
        yield from _deviation_lines(report)
        verdict = "within" if report.holds else "ABOVE"
        yield (
            f"Largest relative deviation: {worst.relative:.3g}, {verdict} the bound of "
            f"{report.bound:g} ({worst.kind} for {worst.receiver}, epoch {worst.epoch}, step "
            f"{worst.step}; largest difference of an element {worst.largest:.3g})"
        )


def _deviation_lines(report: ReplayReport) -> Iterator[str]:
    """The worst tensor of each epoch and kind; --json has every step."""
    worst: dict[tuple[int, str, str], float] = {}
    for each in report.deviations:
        key = (each.epoch, each.kind, each.receiver)
        worst[key] = max(worst.get(key, 0.0), each.relative)
    for (epoch, kind, receiver), relative in sorted(worst.items()):
        yield f"  epoch {epoch}, {kind} for {receiver}: at most {relative:.3g}"
