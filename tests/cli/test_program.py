from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import click
import pytest

from slstream.cli import program
from slstream.cli.lazy_group import CommandPlace, LazyGroup

HEAVY = ("torch", "numba", "polars", "sklearn", "pydantic", "numpy", "rich", "asyncio")


def slstream(
    *arguments: str | Path, stdout: int = subprocess.PIPE, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run the real program."""
    return subprocess.run(
        [sys.executable, "-m", "slstream", *map(str, arguments)],
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "SLSTREAM_DEBUG": "", **environment},
        check=False,
    )


def test_help_lists_the_commands_and_imports_nothing_heavy() -> None:
    script = f"""
import sys
from slstream.cli import main
try:
    main(["--help"])
finally:
    print("heavy:", [name for name in {HEAVY!r} if name in sys.modules])
"""
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert "heavy: []" in result.stdout
    for command in ("run", "party", "topology", "bench"):
        assert f"  {command} " in result.stdout
    assert "Examples:" in result.stdout
    assert "130" in result.stdout


def test_short_help_is_help() -> None:
    assert slstream("-h").stdout == slstream("--help").stdout


def test_version() -> None:
    result = slstream("--version")
    assert result.returncode == 0
    assert result.stdout.startswith("slstream 0.")


def test_no_command_shows_the_help_and_fails() -> None:
    result = slstream()
    assert result.returncode == 2
    assert result.stdout == ""
    assert "Commands:" in result.stderr


@pytest.mark.parametrize("arguments", [["trian"], ["run"], ["run", "x", "--stes", "1"], ["--bug"]])
def test_wrong_use_exits_2(arguments: Sequence[str]) -> None:
    result = slstream(*arguments)
    assert result.returncode == 2
    assert "error: " in result.stderr
    assert "Try 'slstream" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    "command", [["run"], ["topology", "check"], ["party", "bob", "--topology"]]
)
def test_a_missing_topology_is_named(command: Sequence[str], tmp_path: Path) -> None:
    path = tmp_path / "none.yaml"
    result = slstream(*command, path)
    assert result.returncode == 1
    assert result.stderr.startswith("error: ")
    assert str(path) in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout == ""


def test_a_broken_topology_is_an_error_with_its_place(tmp_path: Path) -> None:
    path = tmp_path / "broken.yaml"
    path.write_text("federation: [unclosed\nparties: {}\n")
    result = slstream("run", path, "--json")
    assert result.returncode == 1
    assert result.stderr.startswith("error: ")
    assert "broken.yaml" in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout == ""


def test_a_reader_that_leaves_is_no_error() -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    try:
        result = slstream("topology", "schema", stdout=write_end)
    finally:
        os.close(write_end)
    assert (result.returncode, result.stderr) == (1, "")


def test_every_command_and_option_has_help() -> None:
    def walk(command: click.Command, ctx: click.Context) -> None:
        assert command.help, f"{ctx.command_path} has no help"
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                assert parameter.help, f"{ctx.command_path} {parameter.name} has no help"
        if isinstance(command, click.Group):
            for name in command.list_commands(ctx):
                child = command.get_command(ctx, name)
                assert child is not None
                walk(child, click.Context(child, info_name=name, parent=ctx))

    root = program.program()
    walk(root, click.Context(root, info_name="slstream"))


class TestOutcomes:
    """How each way of ending becomes a message and a status."""

    @pytest.fixture(autouse=True)
    def _raising_command(self, monkeypatch: pytest.MonkeyPatch) -> None:
        place = CommandPlace(module="tests.cli.raising", summary="Raise.")
        monkeypatch.setitem(program.COMMANDS, "raising", place)
        monkeypatch.delenv("SLSTREAM_DEBUG", raising=False)

    @pytest.mark.parametrize(
        ("outcome", "code", "message"),
        [
            ("fine", 0, ""),
            ("user", 1, "error: bob.csv: expected column 'id', found 'ID'\n"),
            ("hostile", 1, "error: refused: \\x1b[2Jgone\n"),
            ("file", 1, "error: [Errno 13] Permission denied: 'runs'\n"),
            ("exit", 3, ""),
            (
                "interrupted",
                130,
                "stopped: asked to stop at step 7\nThe files of this run are in runs/x-1/\n",
            ),
        ],
    )
    def test_status_and_message(
        self, outcome: str, code: int, message: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with pytest.raises(SystemExit) as ended:
            program.main(["raising", outcome])
        assert ended.value.code == code
        captured = capsys.readouterr()
        assert captured.err == message
        assert captured.out == ""

    def test_keyboard_interrupt(self, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit) as ended:
            program.main(["raising", "keyboard"])
        assert ended.value.code == 130
        assert capsys.readouterr().err.strip() == "stopped: interrupted"

    def test_a_bug_says_how_to_see_the_trace(self, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit) as ended:
            program.main(["raising", "bug"])
        assert ended.value.code == 70
        text = capsys.readouterr().err
        assert "unexpected error: ZeroDivisionError: division by zero" in text
        assert "SLSTREAM_DEBUG=1" in text
        assert "Traceback" not in text

    @pytest.mark.parametrize("outcome", ["bug", "user"])
    def test_debug_shows_the_trace(
        self, outcome: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        # Set first, so that what --debug writes is undone after the test.
        monkeypatch.setenv("SLSTREAM_DEBUG", "0")
        with pytest.raises(SystemExit):
            program.main(["--debug", "raising", outcome])
        assert "Traceback" in capsys.readouterr().err

    def test_a_broken_pipe_is_quiet(self, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit):
            program.main(["raising", "pipe"])
        assert capsys.readouterr().err == ""

    def test_colour_only_on_a_terminal_that_wants_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def stderr(**environment: str) -> str:
            terminal = _Terminal()
            monkeypatch.setattr(sys, "stderr", terminal)
            for name, value in environment.items():
                monkeypatch.setenv(name, value)
            with pytest.raises(SystemExit):
                program.main(["raising", "user"])
            return terminal.getvalue()

        monkeypatch.delenv("NO_COLOR", raising=False)
        assert stderr().startswith("\x1b[31merror:")
        assert stderr(NO_COLOR="1").startswith("error: ")


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_place_without_a_command_is_a_clear_bug() -> None:
    place = CommandPlace(module="tests.cli.without_command", summary="Nothing.")
    group = LazyGroup("group", places={"nothing": place}, help="Test.")
    with pytest.raises(TypeError, match="is no click command"):
        group.get_command(click.Context(group), "nothing")


def _catches(process: subprocess.Popen[str], number: signal.Signals) -> bool:
    status = Path(f"/proc/{process.pid}/status").read_text()
    (caught,) = (line.split()[1] for line in status.splitlines() if line.startswith("SigCgt"))
    return bool(int(caught, 16) >> (number - 1) & 1)


def test_a_program_that_calls_this_one_has_its_signals_back() -> None:
    # A handler of its own: one that a test before this left would hide that it is not given back.
    def own(*_: object) -> None:
        """Never called."""

    before = signal.signal(signal.SIGTERM, own)
    try:
        with pytest.raises(SystemExit):
            program.main(["--help"])
        assert signal.getsignal(signal.SIGTERM) is own
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_signal_that_is_ignored_stays_so(monkeypatch: pytest.MonkeyPatch) -> None:
    handlers: list[object] = []
    monkeypatch.setattr(program, "program", lambda: seen_by(handlers))
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with pytest.raises(SystemExit):
            program.main([])
    finally:
        signal.signal(signal.SIGHUP, before)
    assert handlers == [signal.default_int_handler, signal.SIG_IGN]


def seen_by(handlers: list[object]) -> click.Command:
    """A command that notes how SIGTERM and SIGHUP are handled."""

    def note() -> None:
        handlers.extend(map(signal.getsignal, (signal.SIGTERM, signal.SIGHUP)))

    return click.Command("note", callback=note)


def test_it_can_be_called_in_a_thread() -> None:
    with ThreadPoolExecutor(1) as thread:
        ended = thread.submit(program.main, ["--version"]).exception()
    assert isinstance(ended, SystemExit)
    assert ended.code == 0


def test_a_full_disk_behind_the_output_is_no_bug() -> None:
    with Path("/dev/full").open("w") as full:
        result = slstream("--version", stdout=full.fileno())
    assert result.returncode == 1
    assert result.stderr.startswith(
        "error: [Errno 28] No space left on device\nExpected to be able"
    )


def test_sigterm_in_the_moment_in_which_it_is_handled_ends_like_ctrl_c(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    set_handler = signal.signal

    def then_comes_a_signal(number: int, handler: object) -> object:
        before = set_handler(number, handler)  # type: ignore[arg-type]
        if handler is signal.default_int_handler:
            signal.raise_signal(number)
        return before

    def own(*_: object) -> None:
        """Never called."""

    before = set_handler(signal.SIGTERM, own)
    try:
        monkeypatch.setattr(signal, "signal", then_comes_a_signal)
        with pytest.raises(SystemExit) as ended:
            program.main(["--help"])
        assert ended.value.code == 130
        assert signal.getsignal(signal.SIGTERM) is own
    finally:
        set_handler(signal.SIGTERM, before)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_before_a_session_handles_it_ends_like_ctrl_c(number: signal.Signals) -> None:
    process = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import signal, time\n"
            "signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup has it ignored\n"
            "from slstream.cli import main, program\n"
            "program.program = lambda: time.sleep(30)  # as if libraries were loading\n"
            "main([])",
        ],
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        for _ in range(1000):
            if _catches(process, number):
                break
            time.sleep(0.01)
        process.send_signal(number)
        _, stderr = process.communicate(timeout=20)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130
    assert stderr == "stopped: interrupted\n"
