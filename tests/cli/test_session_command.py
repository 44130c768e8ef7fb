from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from slstream.cli.log_output import LogFormat
from slstream.cli.session_command import SessionOptions, session_options, show_session
from slstream.errors import DataError, Interrupted, SlstreamError, TransportBroken
from slstream.party.summary import Summary
from slstream.party.telemetry import Progress
from tests.cli.examples import FOCUS, SUMMARY, event

DIRECTORY = Path("runs/x-1")
OPTIONS = SessionOptions(
    directory=None,
    overrides=(),
    quiet=False,
    as_json=False,
    log_level="warning",
    log_format=LogFormat.TEXT,
)


def session(on_progress: Callable[[Progress], None]) -> Summary:
    on_progress(event("bob"))
    return SUMMARY


def test_progress_and_table_go_to_different_places(capsys: pytest.CaptureFixture[str]) -> None:
    show_session(session, focus=FOCUS, directory=DIRECTORY, options=OPTIONS)
    out, err = capsys.readouterr()
    assert "bob: training" in err
    assert "breast-cancer  finished" in out
    assert "bob: training" not in out


def test_json_is_one_object_alone(capsys: pytest.CaptureFixture[str]) -> None:
    show_session(session, focus=FOCUS, directory=DIRECTORY, options=replace(OPTIONS, as_json=True))
    out, err = capsys.readouterr()
    assert json.loads(out)["ratio"] == SUMMARY.ratio
    assert "bob: training" in err


@pytest.mark.parametrize("as_json", [False, True])
def test_quiet_says_nothing_but_json(as_json: bool, capsys: pytest.CaptureFixture[str]) -> None:
    options = replace(OPTIONS, quiet=True, as_json=as_json)
    show_session(session, focus=FOCUS, directory=DIRECTORY, options=options)
    out, err = capsys.readouterr()
    assert err == ""
    assert bool(out) is as_json


@pytest.mark.parametrize(("outcome", "code"), [("failed", 1), ("interrupted", 130)])
def test_the_outcome_is_the_status(outcome: str, code: int) -> None:
    with pytest.raises(SystemExit) as ended:
        show_session(
            lambda _: replace(SUMMARY, outcome=outcome),
            focus=FOCUS,
            directory=DIRECTORY,
            options=OPTIONS,
        )
    assert ended.value.code == code


@pytest.mark.parametrize(
    ("error", "notes"),
    [
        (Interrupted("stopped at step 7"), ["The files of this run are in runs/x-1/"]),
        (TransportBroken("disk full"), ["The files of this run are in runs/x-1/"]),
        (DataError("no column 'id'"), []),
    ],
)
def test_an_error_says_what_is_left(
    error: SlstreamError, notes: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    DIRECTORY.mkdir(parents=True)

    def fails(_: Callable[[Progress], None]) -> Summary:
        raise error

    with pytest.raises(type(error)) as raised:
        show_session(fails, focus=FOCUS, directory=DIRECTORY, options=OPTIONS)
    assert getattr(raised.value, "__notes__", []) == notes


def test_what_is_not_there_is_not_said_to_be_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    def fails(_: Callable[[Progress], None]) -> Summary:
        raise TransportBroken("cannot make it")

    with pytest.raises(TransportBroken) as raised:
        show_session(fails, focus=FOCUS, directory=DIRECTORY, options=OPTIONS)
    assert not hasattr(raised.value, "__notes__")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], OPTIONS),
        (["-q"], replace(OPTIONS, quiet=True, log_level="error")),
        (["-q", "--log-level", "info"], replace(OPTIONS, quiet=True, log_level="info")),
        (
            ["--log-format", "json", "--json"],
            replace(OPTIONS, log_format=LogFormat.JSON, as_json=True),
        ),
        (
            ["--set", "seed=7", "--set", "training.epochs=3"],
            replace(OPTIONS, overrides=("seed=7", "training.epochs=3")),
        ),
    ],
)
def test_options(arguments: list[str], expected: SessionOptions) -> None:
    seen: list[SessionOptions] = []

    @click.command()
    @click.option("--dir", "directory")
    @session_options
    def command(options: SessionOptions) -> None:
        seen.append(options)

    result = CliRunner().invoke(command, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert seen == [expected]
