import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from slstream.cli.archive import command
from slstream.errors import ArchiveError, ConfigError, SlstreamError, TransportError
from slstream.transport.connect import embedded_url
from slstream.transport.contract import StoredRecord
from tests.archive.rebuilding import rewrite
from tests.archive.sessions import LOBBY, SESSION, UP, make_archive, with_log, write_session
from tests.cli.examples import assert_fits


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(command, [str(each) for each in arguments], catch_exceptions=False)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory of a run."""
    monkeypatch.delenv("COLUMNS", raising=False)  # a test runner may set it
    with_log(tmp_path / "runs" / "credit-1" / "log", write_session)
    return tmp_path / "runs" / "credit-1"


def test_export_then_verify(run: Path, tmp_path: Path) -> None:
    path = tmp_path / "s.mcap"
    exported = invoke("export", SESSION, path, "--dir", run)
    verified = invoke("verify", path)
    assert exported.exit_code == verified.exit_code == 0
    assert exported.stdout == verified.stdout
    text = verified.stdout
    assert_fits(text, 100)
    assert "credit  finished  intact" in text
    assert "3 links, 29 frames, 3 schemas" in text
    assert f"{UP} " in text


def test_foreign_text_does_not_reach_the_terminal(tmp_path: Path) -> None:
    def edit(records: list[StoredRecord]) -> list[StoredRecord]:
        value = json.loads(records[-1].value) | {"outcome": "fine\x1b[2J\n"}
        return [*records[:-1], replace(records[-1], value=json.dumps(value).encode())]

    found = invoke("verify", rewrite(make_archive(tmp_path), LOBBY, edit))
    assert "credit  fine\\x1b[2J\\n  intact" in found.stdout
    assert "\x1b" not in found.stdout


def test_json_is_one_object(run: Path, tmp_path: Path) -> None:
    path = tmp_path / "s.mcap"
    exported = invoke("export", SESSION, path, "--dir", run, "--json")
    verified = invoke("verify", path, "--json")
    report = json.loads(verified.stdout)
    assert json.loads(exported.stdout) == report
    assert report["session"] == SESSION
    assert report["file_bytes"] == path.stat().st_size
    assert {each["role"] for each in report["partitions"]} >= {"link", "lobby", "schemas"}


def test_the_log_may_be_a_url_or_any_run(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    invoke("export", SESSION, tmp_path / "a", "--log", embedded_url(run / "log"))
    monkeypatch.chdir(tmp_path)
    with_log(tmp_path / "runs" / "other-1" / "log", lambda log: log.topics())
    invoke("export", SESSION, tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_log_that_cannot_be_read_does_not_hide_the_session(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = tmp_path / "runs" / "bad-1" / "log"
    bad.mkdir(parents=True)
    os.utime(run / "log", (0, 0))  # the newest is looked at first
    monkeypatch.chdir(tmp_path)
    exported = invoke("export", SESSION, tmp_path / "s.mcap")
    assert exported.exit_code == 0
    assert f"{embedded_url(bad)}: " in exported.stderr
    with pytest.raises(ConfigError, match="no-such: expected it in"):
        invoke("export", "no-such", tmp_path / "x.mcap")


def test_a_file_is_replaced_only_with_force(run: Path, tmp_path: Path) -> None:
    path = tmp_path / "s.mcap"
    path.write_text("mine")
    with pytest.raises(ArchiveError, match="--force"):
        invoke("export", SESSION, path, "--dir", run)
    assert path.read_text() == "mine"
    assert invoke("export", SESSION, path, "--dir", run, "--force").exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (["no-such", "x.mcap", "--dir", "{run}"], ConfigError, "session no-such: expected it in"),
        ([SESSION, "x.mcap", "--dir", "none"], ConfigError, "expected the directory of a run"),
        ([SESSION, "x.mcap", "--log", "embedded:///none/at/all"], TransportError, "none/at/all"),
        ([SESSION, "x.mcap", "--dir", "{run}", "--federation", "x"], ConfigError, "expected it in"),
    ],
)
def test_what_cannot_be_exported(
    run: Path, arguments: list[str], error: type[SlstreamError], message: str
) -> None:
    with pytest.raises(error, match=message):
        invoke("export", *(each.replace("{run}", str(run)) for each in arguments))
    assert not Path("x.mcap").exists()


def test_the_latest_session_is_the_one_that_was_announced_last(run: Path, tmp_path: Path) -> None:
    by_name, latest = tmp_path / "name.mcap", tmp_path / "latest.mcap"
    invoke("export", "later", by_name, "--dir", run)
    invoke("export", "latest", latest, "--dir", run)
    assert latest.read_bytes() == by_name.read_bytes()


def test_both_places_are_a_usage_error(tmp_path: Path) -> None:
    result = invoke("export", SESSION, "x.mcap", "--dir", tmp_path, "--log", "embedded:///x")
    assert result.exit_code == 2
    assert "--dir or --log" in result.stderr


def test_damage_is_an_error(tmp_path: Path) -> None:
    path = make_archive(tmp_path)
    data = bytearray(path.read_bytes())
    data[-1000] ^= 1
    path.write_bytes(data)
    with pytest.raises(ArchiveError, match="damaged"):
        invoke("verify", path)
