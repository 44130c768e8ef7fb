from __future__ import annotations

import io

import pytest
from rich.console import Console

from slstream.cli.log_output import LogFormat, logs_to
from slstream.cli.progress import SilentDisplay, progress_display
from slstream.cli.progress_lines import ProgressLines
from slstream.cli.progress_table import ProgressTable
from slstream.party.telemetry import PartyState, Progress
from tests.cli.examples import FOCUS, assert_fits, event, rendered, words


def table(*events: Progress, width: int = 80) -> str:
    """The display 4 s after its start and 2.5 s after the events."""
    now_s = 100.0
    display = ProgressTable(Console(file=io.StringIO()), FOCUS, clock=lambda: now_s)
    now_s += 1.5
    for each in events:
        display.update(each)
    now_s += 2.5
    return rendered(display.render(), width)


@pytest.mark.parametrize("width", [80, 100])
def test_one_row_per_party_in_order_of_name(width: int) -> None:
    text = table(
        event("carol", waiting_for="the gradient of step 8 from alice", waiting_s=6.312),
        event("alice", loss=0.12311, metrics={"loss": 0.2, "auc": 0.98754, "accuracy": 0.9}),
        event("bob", state=PartyState.EVALUATING, step=14, raw_bytes=0, wire_bytes=0),
        width=width,
    )
    assert_fits(text, width)
    header, columns, alice, bob, carol, wait = words(text)
    assert header.startswith("epoch 3/20 ")
    assert header.endswith(" 12% 4.00 s")
    assert columns == "party state step loss auc raw wire ratio"
    assert alice == "alice training 7/14 0.1231 0.9875 18.4 MB 700 kB 26.3x"
    assert bob == "bob evaluating 14/14 0 B 0 B -"
    assert carol == "carol waiting 7/14 18.4 MB 700 kB 26.3x"
    assert wait == "carol has waited 8.81 s for the gradient of step 8 from alice"


def test_before_the_first_event() -> None:
    assert words(table()) == ["starting 4.00 s"]


def test_opening_has_no_numbers_yet() -> None:
    text = table(Progress(party="alice", session="s", state=PartyState.OPENING))
    assert words(text)[0].startswith("epoch 0/0")
    assert "alice opening 0 B 0 B -" in words(text)


def test_the_party_farthest_behind_counts() -> None:
    text = table(event("alice", state=PartyState.FINISHED, epoch=5), event("bob", epoch=1, step=0))
    assert words(text)[0].startswith("epoch 1/20 ")
    assert " 0% " in words(text)[0]


def test_a_finished_session_is_complete_after_an_early_stop_too() -> None:
    assert " 100% " in words(table(event("alice", state=PartyState.FINISHED, epoch=5)))[0]


def test_who_has_ended_waits_for_nothing() -> None:
    text = table(event("bob", state=PartyState.FAILED, waiting_for="alice", waiting_s=9.0))
    assert "bob failed" in " ".join(words(text))
    assert "has waited" not in text


def test_live_display_keeps_messages_and_logs_apart_from_the_table() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=80, color_system=None)
    display = progress_display(console, FOCUS, quiet=False)
    assert isinstance(display, ProgressTable)
    with logs_to(console, level="info", log_format=LogFormat.TEXT), display:
        display.update(event("alice", message="512 rows matched"))
        display.update(event("alice", message="512 rows matched", step=8))
    text = console.file.getvalue() if isinstance(console.file, io.StringIO) else ""
    assert text.count("alice: 512 rows matched") == 1
    assert "8/14" in text


def test_the_display_fits_its_place() -> None:
    assert isinstance(
        progress_display(Console(file=io.StringIO()), FOCUS, quiet=False), ProgressLines
    )
    silent = progress_display(Console(file=io.StringIO(), force_terminal=True), FOCUS, quiet=True)
    assert isinstance(silent, SilentDisplay)
