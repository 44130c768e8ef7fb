"""The program: its commands, and how its errors become messages and an exit status."""

from __future__ import annotations

import errno
import io
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

import click
from click.exceptions import NoArgsIsHelpError

from slstream.cli.exit_code import ExitCode
from slstream.cli.lazy_group import CommandPlace, LazyGroup
from slstream.cli.printable import printable
from slstream.errors import Interrupted, SlstreamError

DEBUG_VARIABLE = "SLSTREAM_DEBUG"

_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EIO)
"""Errors of the disk that standard output is redirected to; what else is written names its file."""

COMMANDS = {
    "run": CommandPlace(
        module="slstream.cli.run",
        summary="Train a federation: one process per party, on this machine.",
    ),
    "party": CommandPlace(
        module="slstream.cli.party",
        summary="Run one party alone; the others join through the log.",
    ),
    "health": CommandPlace(
        module="slstream.cli.health",
        summary="Tell whether a party's process is alive, for container engines.",
    ),
    "sessions": CommandPlace(
        module="slstream.cli.sessions",
        summary="List the sessions of a log: state, progress, bytes.",
    ),
    "topology": CommandPlace(
        module="slstream.cli.topology",
        summary="Check a federation file, and provide what it needs on a Kafka broker.",
    ),
    "archive": CommandPlace(
        module="slstream.cli.archive",
        summary="Keep a session in one file, and check such files.",
    ),
    "soak": CommandPlace(
        module="slstream.cli.soak",
        summary="Kill parties at random, and compare what they learn.",
    ),
    "replay": CommandPlace(
        module="slstream.cli.replay",
        summary="Compute one party of a session again from the log, and compare.",
    ),
    "codecs": CommandPlace(
        module="slstream.cli.codecs",
        summary="List the codecs, explain one, or try one on a tensor.",
    ),
    "bench": CommandPlace(
        module="slstream.cli.bench",
        summary="Measure accuracy, overhead, codecs and transports.",
    ),
}

HELP = """Split learning over a durable log, every tensor compressed.

Parties train one model together without showing each other their data. A topology file says who
they are and what they agreed on.
"""

EPILOG = """\b
Examples:
  slstream run topology/breast-cancer.yaml
  slstream run topology/credit.yaml --set training.epochs=3 --json
  slstream party alice --topology topology/breast-cancer.yaml
  slstream topology check my-federation.yaml
  slstream codecs try ecsq activation.npy
  slstream bench step

\b
Exit status:
  0    done
  1    failed: the message says what was wrong and what to do
  2    unknown command or option
  3    a replay on another environment than the session's (see replay --tolerant)
  4    a broker is not as the topology says (topology diff)
  70   an error that was not foreseen; SLSTREAM_DEBUG=1 shows where
  130  interrupted (SIGINT, SIGTERM or SIGHUP); the log of what was done is kept
"""


def program() -> LazyGroup:
    """The command tree; nothing of it is imported yet."""
    group = LazyGroup(
        "slstream",
        places=COMMANDS,
        help=HELP,
        epilog=EPILOG,
        params=[
            click.Option(
                ["--version"],
                is_flag=True,
                expose_value=False,
                is_eager=True,
                callback=_print_version,
                help="Print the version and exit.",
            ),
            click.Option(
                ["--debug"],
                is_flag=True,
                expose_value=False,
                callback=_enable_debug,
                help=f"Show where an error came from; the same as {DEBUG_VARIABLE}=1.",
            ),
        ],
    )
    # Commands inherit this from the context of their group.
    group.context_settings = {"help_option_names": ["-h", "--help"]}
    return group


def _print_version(ctx: click.Context, _parameter: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        from importlib.metadata import version

        click.echo(f"slstream {version('slstream')}")
        ctx.exit()


def _enable_debug(_ctx: click.Context, _parameter: click.Parameter, wanted: bool) -> None:
    if wanted:
        # In the environment, so that the parties' processes know it too.
        os.environ[DEBUG_VARIABLE] = "1"


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the program and exit.

    Args:
        arguments: those after the program's name; ``sys.argv[1:]`` when ``None``.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A terminal that cannot show a sign gets "?"; a summary is no reason to fail.
            stream.reconfigure(errors="replace")
    sys.exit(_exit_code(arguments))


def _exit_code(arguments: Sequence[str] | None) -> int:
    """Run the program; every way in which it can end is listed here."""
    try:
        with _signals_as_ctrl_c():  # In here, so that a signal is caught from its first moment on.
            outcome = program().main(arguments, prog_name="slstream", standalone_mode=False)
            sys.stdout.flush()
    except click.ClickException as error:
        _print_click_error(error)
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        _print_labelled("stopped", "interrupted")
        return ExitCode.INTERRUPTED
    except Interrupted as error:
        _print_error("stopped", error)
        return ExitCode.INTERRUPTED
    except SlstreamError as error:
        _print_error("error", error)
        return ExitCode.FAILED
    except BrokenPipeError:
        # The reader has what it wanted. What is still buffered must not fail again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.FAILED
    except OSError as error:
        if error.filename is None and error.errno not in _DISK:
            _print_unforeseen(error)
            return ExitCode.BUG
        if error.filename is None:
            error.add_note("Expected to be able to write the output; is it a file on a full disk?")
        _print_error("error", error)
        return ExitCode.FAILED
    except Exception as error:  # noqa: BLE001 - the last resort: no trace for users, see DEBUG
        _print_unforeseen(error)
        return ExitCode.BUG
    return outcome if isinstance(outcome, int) else ExitCode.OK


@contextmanager
def _signals_as_ctrl_c() -> Iterator[None]:
    """While libraries load, and where no session handles them, SIGTERM and SIGHUP are Ctrl-C.

    One that is ignored, as ``nohup`` has it with SIGHUP, stays so. In another thread than the main
    one nothing is handled.
    """
    before: dict[signal.Signals, Any] = {}
    try:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGHUP):
                if (handler := signal.getsignal(number)) is not signal.SIG_IGN:
                    before[number] = handler
                    signal.signal(number, signal.default_int_handler)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)  # A program that calls this one may go on.


def _debugging() -> bool:
    return os.environ.get(DEBUG_VARIABLE, "") not in ("", "0")


def _print_click_error(error: click.ClickException) -> None:
    """What click prints, with this program's label."""
    if isinstance(error, NoArgsIsHelpError):
        error.show()
        return
    ctx = error.ctx if isinstance(error, click.UsageError) else None
    if ctx is not None:
        click.echo(f"{ctx.get_usage()}\nTry '{ctx.command_path} --help' for help.\n", err=True)
    _print_labelled("error", error.format_message())


def _print_error(label: str, error: SlstreamError | OSError) -> None:
    """The message, then notes that were added on its way up."""
    if _debugging():
        traceback.print_exception(error)
    lines = [str(error) or type(error).__name__, *getattr(error, "__notes__", ())]
    _print_labelled(label, "\n".join(lines))


def _print_unforeseen(error: Exception) -> None:
    if _debugging():
        traceback.print_exception(error)
    _print_labelled(
        "unexpected error",
        f"{type(error).__name__}: {error}\n"
        "This is a fault of slstream, not of your input. "
        f"Run the same with {DEBUG_VARIABLE}=1 to see where it happened.",
    )


def _print_labelled(label: str, text: str) -> None:
    colour = False if os.environ.get("NO_COLOR") else None  # None: when stderr is a terminal
    click.echo(f"{click.style(f'{label}:', fg='red')} {printable(text)}", err=True, color=colour)
