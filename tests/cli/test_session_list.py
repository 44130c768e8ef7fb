"""``slstream sessions``: the table and the command."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from slstream.audit.link_tally import LinkTally
from slstream.audit.session_list import ListedSession
from slstream.cli.session_list_table import session_list_table
from slstream.cli.sessions import command
from slstream.errors import TransportError
from slstream.frames.header import FrameKind
from slstream.frames.topics import LinkName
from slstream.transport.connect import embedded_url
from tests.audit.small_log import SESSION, SmallLog, announce, frames, open_log
from tests.cli.examples import assert_fits, rendered, words
from tests.topology.documents import edited, write


def tally(sender: str, receiver: str, **changes: object) -> LinkTally:
    fields: dict[str, object] = {
        "link": LinkName(
            federation="breast-cancer", sender=sender, receiver=receiver, session=SESSION
        ),
        "records": 900,
        "wire_bytes": 1_250_000,
        "frames": 820,
        "fences": 2,
        "duplicates": 0,
        "fenced": 0,
        "abandoned": 0,
        "incarnations": frozenset({1}),
        "epoch": 3,
        "steps": 816,
        "first_ms": None,
        "last_ms": None,
        "problem": None,
    }
    return LinkTally(**{**fields, **changes})  # type: ignore[arg-type]


LISTED = ListedSession(
    federation="breast-cancer",
    session=SESSION,
    state="unfinished",
    reason="",
    parties=("alice", "bob"),
    epochs=20,
    started_ms=1_769_860_800_000,
    last_ms=1_769_860_925_400,
    links=(tally("alice", "bob"), tally("bob", "alice", incarnations=frozenset({1, 4, 5}))),
    divergences={},
)


def lines(*sessions: ListedSession, width: int = 100) -> list[str]:
    return words(rendered(session_list_table(sessions, "embedded:///runs/x/log"), width))


@pytest.mark.parametrize("width", [80, 100])
def test_table_tells_state_progress_and_bytes(width: int) -> None:
    assert_fits(rendered(session_list_table([LISTED, LISTED], "embedded:///x"), width), width)
    found = lines(LISTED, width=width)
    assert "breast-cancer alice epoch 3 of 20 1,640 frames 2026-01-31 12:00" in found
    assert f"{SESSION} bob (3) 816 steps 2.50 MB 2026-01-31 12:02" in found
    assert "unfinished" in found


def test_what_went_wrong_is_shown_where_it_did() -> None:
    bad = tally("bob", "alice", duplicates=3, fenced=2, abandoned=1, problem="topic t: \x1b[2J")
    session = replace(
        LISTED, state="failed", reason="bob: no", divergences={"bob": 2}, links=(bad,)
    )
    found = lines(session)
    for text in (
        "3 duplicates",
        "2 fenced",
        "1 abandoned",
        "failed, damaged",
        f"{SESSION}: failed: bob: no",
        f"{SESSION}: bob recomputed 2 frames differently",
        f"{SESSION}: damaged: topic t: \\x1b[2J",
    ):
        assert any(text in line for line in found), text


def test_nothing_is_said_of_what_did_not_happen() -> None:
    text = " ".join(lines(LISTED))
    for word in ("duplicate", "fenced", "abandoned", "damaged", "recomputed", "alice ("):
        assert word not in text


@pytest.mark.parametrize(
    ("time", "shown"), [(None, ""), (2**62, "4611686018427387904 ms"), (-(2**62), " ms")]
)
def test_a_log_may_claim_any_time(time: int | None, shown: str) -> None:
    text = " ".join(lines(replace(LISTED, started_ms=time)))
    assert shown in text


def test_an_empty_log() -> None:
    assert lines() == ["embedded:///runs/x/log", "no session"]


def test_a_session_without_a_lobby_is_explained() -> None:
    assert any(
        "the lobby does not name it" in each for each in lines(replace(LISTED, state="unannounced"))
    )


@pytest.fixture
def run_directory(tmp_path: Path) -> Path:
    async def write() -> None:
        async with await open_log(tmp_path / "log") as log:
            small = SmallLog(log)
            await small.lobby(announce())
            await small.link("bob", "alice", frames(FrameKind.GRADIENT, [(1, 1), (1, 2)]))
            await SmallLog(log, "other").lobby(announce("x", federation="other"))

    asyncio.run(write())
    return tmp_path


def test_command_prints_one_object(run_directory: Path) -> None:
    result = CliRunner().invoke(
        command, ["--dir", str(run_directory), "--json"], catch_exceptions=False
    )
    assert result.exit_code == 0
    (log,) = json.loads(result.stdout)["logs"]
    assert log["log"] == embedded_url(run_directory / "log")
    first, second = log["sessions"]
    assert (first["federation"], first["session"], first["state"]) == (
        "credit",
        SESSION,
        "unfinished",
    )
    assert (first["epochs"], first["epoch"], first["steps"], first["frames"]) == (4, 1, 2, 2)
    assert first["incarnations"] == {"bob": 1, "alice": 0}
    (link,) = first["links"]
    assert (link["sender"], link["records"], link["problem"]) == ("bob", 2, None)
    assert link["wire_bytes"] == first["wire_bytes"]
    assert second["federation"] == "other"


def test_command_prints_a_table(run_directory: Path) -> None:
    arguments = ["--log", embedded_url(run_directory / "log")]
    result = CliRunner().invoke(command, arguments, catch_exceptions=False)
    assert f"{SESSION} alice 2 steps" in " ".join(words(result.stdout))
    assert "epoch 1 of 4" in result.stdout


def test_command_takes_the_federation_of_a_topology(run_directory: Path) -> None:
    path = write(run_directory, edited("federation: clinic", "federation: other"))
    result = CliRunner().invoke(
        command, [str(path), "--dir", str(run_directory), "--json"], catch_exceptions=False
    )
    (log,) = json.loads(result.stdout)["logs"]
    assert [session["federation"] for session in log["sessions"]] == ["other"]


@pytest.mark.parametrize("form", [["--json"], []])
def test_a_log_that_cannot_be_read_does_not_hide_the_others(
    run_directory: Path, monkeypatch: pytest.MonkeyPatch, form: list[str]
) -> None:
    runs = run_directory / "runs"
    (runs / "bad-1" / "log").mkdir(parents=True)
    (runs / "good-1").mkdir()
    (run_directory / "log").rename(runs / "good-1" / "log")
    monkeypatch.chdir(run_directory)
    result = CliRunner().invoke(command, form, catch_exceptions=False)
    assert result.exit_code == 1
    assert SESSION in result.stdout
    assert "bad-1" not in result.stdout
    assert "bad-1/log: " in result.stderr
    with pytest.raises(TransportError, match="bad-1"):
        CliRunner().invoke(command, ["--dir", "runs/bad-1", *form], catch_exceptions=False)


def test_command_changes_nothing(run_directory: Path) -> None:
    def content() -> dict[Path, bytes]:
        return {p: p.read_bytes() for p in sorted(run_directory.rglob("*")) if p.is_file()}

    before = content()
    CliRunner().invoke(command, ["--dir", str(run_directory)], catch_exceptions=False)
    assert {p: b for p, b in content().items() if p in before} == before
