"""What ``replay`` and ``archive replay`` have in common: their options, and what they show."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import asdict, dataclass
from functools import wraps
from math import isinf
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

import click

from slstream.cli.exit_code import ExitCode
from slstream.cli.place import Place, PlaceType
from slstream.cli.printable import printable
from slstream.cli.session_command import type_of_folder, type_of_path

if TYPE_CHECKING:
    from rich.console import Console

    from slstream.audit.replay import Replayed, ReplayReport
    from slstream.topology.topology import Topology
    from slstream.transport.contract import Transport

DEFAULT_BOUND = 0.05

OpenLog = Callable[[], "Awaitable[AbstractAsyncContextManager[Transport]]"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayOptions:
    """What to replay and to demand, wherever the log is."""

    party: str
    overrides: tuple[str, ...]
    until: Place | None
    bound: float | None
    """Largest relative deviation; ``None``: equal bits."""
    dump: tuple[tuple[int, int], Path] | None
    model: Path | None
    """Folder for the files of the party's model."""
    as_json: bool


def replay_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give ``command`` the common options, as one argument ``options``."""

    @wraps(command)
    def with_options(
        *,
        party: str,
        overrides: tuple[str, ...],
        until: Place | None,
        tolerant: bool,
        bound: float | None,
        dump: tuple[Place, Path] | None,
        model: Path | None,
        as_json: bool,
        **own: object,
    ) -> None:
        if bound is not None and not tolerant:
            raise click.UsageError("--bound belongs to --tolerant")
        if model is not None and until is not None:
            raise click.UsageError("--model is of the session's end: leave --to out")
        chosen = None
        if dump is not None:
            (epoch, step), path = dump
            if step is None:
                raise click.UsageError("--dump: expected EPOCH/STEP, such as 3/17")
            chosen = (epoch, step), path
        options = ReplayOptions(
            party=party,
            overrides=overrides,
            until=until,
            bound=(DEFAULT_BOUND if bound is None else bound) if tolerant else None,
            dump=chosen,
            model=model,
            as_json=as_json,
        )
        command(options=options, **own)

    decorated: Callable[..., None] = with_options
    for option in reversed(_OPTIONS):
        decorated = option(decorated)
    return decorated


_OPTIONS = (
    click.option("--party", required=True, help="Whose part to compute again."),
    click.option(
        "--set",
        "overrides",
        metavar="KEY.PATH=VALUE",
        multiple=True,
        help="Change the topology, for instance parties.bob.data.path. Repeatable.",
    ),
    click.option(
        "--to",
        "until",
        metavar="EPOCH[/STEP]",
        type=PlaceType(),
        help="Stop after this epoch or step.",
    ),
    click.option(
        "--tolerant", is_flag=True, help="Measure how far tensors deviate, within a bound."
    ),
    click.option(
        "--bound",
        type=click.FloatRange(min=0.0),
        help=f"Largest relative deviation of a tensor with --tolerant.  [default: {DEFAULT_BOUND}]",
    ),
    click.option(
        "--dump",
        metavar="EPOCH/STEP FILE",
        type=(PlaceType(), type_of_path),
        help="Write the tensors that cross the cut in this step as safetensors.",
    ),
    click.option(
        "--model",
        metavar="DIR",
        type=type_of_folder,
        help="Write the party's model.safetensors and scaling.json, once every frame has held.",
    ),
    click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead."),
)


def replay_and_show(
    open_log: OpenLog,
    topology: Topology,
    *,
    session: str,
    begin: Place | None,
    directory: Path | None,
    options: ReplayOptions,
) -> None:
    """Replay, show the progress, print the report, and exit with its status.

    Args:
        open_log: opens what holds the session.
        topology: of the session.
        session: id, or ``latest``.
        begin: where to begin, when not at the first frame.
        directory: of the run, for its checkpoints.
        options: of the command.
    """
    from slstream.audit.comparison import StepRange
    from slstream.audit.replay import EnvironmentDiffers, ReplayRequest, replay
    from slstream.cli.log_output import LogFormat, logs_to
    from slstream.cli.terminal import message_console

    until = options.until
    request = ReplayRequest(
        session=session,
        party=options.party,
        begin=None if begin is None else (begin[0], begin[1] or 0),
        until=StepRange() if until is None else StepRange(epoch=until[0], step=until[1]),
        bound=options.bound,
        dump=None if options.dump is None else options.dump[0],
    )

    console = message_console()

    async def run() -> Replayed:
        with (
            logs_to(console, level="warning", log_format=LogFormat.TEXT),
            _progress(console, options.party) as on_frame,
        ):
            async with await open_log() as log:
                return await replay(request, topology, log, directory=directory, on_frame=on_frame)

    try:
        replayed = asyncio.run(run())
    except EnvironmentDiffers as error:
        click.echo(f"error: {printable(str(error))}", err=True)
        sys.exit(ExitCode.OTHER_ENVIRONMENT)
    report = replayed.report
    if options.as_json:
        click.echo(json.dumps(_finite(asdict(report)) | {"holds": report.holds}))
    else:
        # Environments, reasons and messages are other parties' text.
        click.echo("\n".join(printable(line, keep_lines=False) for line in _lines(report)))
    written = []
    if options.dump is not None:
        replayed.tensors.write(options.dump[1])
        written.append(options.dump[1])
    if options.model is not None and report.holds:
        written += _write_model(replayed, options.model)
    if written and not options.as_json:
        click.echo(f"Written: {', '.join(map(str, written))}")
    if not report.holds:
        sys.exit(ExitCode.FAILED)


def _finite(report: dict[str, Any]) -> dict[str, Any]:
    """The same for JSON, which knows no infinity: a deviation from a tensor of zeros is null."""
    for each in report["deviations"]:
        if isinf(each["relative"]):
            each["relative"] = None
    return report


def _write_model(replayed: Replayed, folder: Path) -> list[Path]:
    """Write what the session's own process wrote; the files.

    Raises:
        ConfigError: the session, or its log, ended before there were final weights.
        StorageError: the disk refuses.
    """
    from slstream.errors import ConfigError
    from slstream.party.atomic_file import write_atomically
    from slstream.party.party_files import MODEL_FILES

    report = replayed.report
    if not report.complete:
        raise ConfigError(
            f"--model: session {report.session} has no final weights: the replay of "
            f"{report.party} ended at {report.stopped}"
        )
    # The weights last: where they are, what they need is there, too.
    written = {folder / name: replayed.model[name] for name in reversed(MODEL_FILES)}
    for path, data in written.items():
        write_atomically(path, data)
    return list(written)


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
        same = report.weights == report.weights_in_log
        log = "the same as in the log" if same else f"in the log: {report.weights_in_log}"
        yield f"Final weights: sha256 {report.weights} ({log})"
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
