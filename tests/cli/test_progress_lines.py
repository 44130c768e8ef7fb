from __future__ import annotations

import io
from dataclasses import replace

from rich.console import Console

from slstream.cli.progress import Focus
from slstream.cli.progress_lines import ProgressLines
from slstream.party.telemetry import PartyState, Progress
from tests.cli.examples import FOCUS, event


def lines(*events: Progress, focus: Focus = FOCUS) -> list[str]:
    file = io.StringIO()
    with ProgressLines(Console(file=file, width=40), focus) as display:
        for each in events:
            display.update(each)
    return file.getvalue().splitlines()


def test_a_whole_session() -> None:
    opening = PartyState.OPENING
    assert lines(
        Progress(party="alice", session="s", state=opening, epochs=2),
        Progress(party="bob", session="s", state=opening, epochs=2, message="512 rows matched"),
        event("alice", epoch=1, epochs=2),
        event("bob", epoch=1, epochs=2),
        event("alice", epoch=1, epochs=2, step=9, loss=0.6),
        event("alice", epoch=1, epochs=2, state=PartyState.EVALUATING, loss=0.6),
        event("bob", epoch=2, epochs=2, metrics={"auc": 0.9, "loss": 0.4}),
        event("alice", epoch=2, epochs=2, loss=0.5, metrics={"loss": 0.4, "auc": 0.9}),
        event("bob", epoch=2, epochs=2, state=PartyState.FINISHED),
        event(
            "alice",
            epoch=2,
            epochs=2,
            state=PartyState.FINISHED,
            loss=0.25,
            metrics={"loss": 0.3, "auc": 0.95},
            message="stopped: no gain",
        ),
    ) == [
        "alice: opening",
        "bob: opening",
        "bob: 512 rows matched",
        "alice: training",
        "bob: training",
        "epoch 1/2: training loss 0.5, validation loss 0.4, auc 0.9, "
        "sent 36.8 MB as 1.40 MB (26.3x fewer)",
        "bob: finished",
        "epoch 2/2: training loss 0.25, validation loss 0.3, auc 0.95, "
        "sent 36.8 MB as 1.40 MB (26.3x fewer)",
        "alice: finished",
        "alice: stopped: no gain",
    ]


def test_a_feature_party_alone_counts_its_own_epochs() -> None:
    epochs = [event("bob", epoch=n, epochs=3) for n in (1, 1, 2, 3)]
    told = [
        line
        for line in lines(*epochs, focus=replace(FOCUS, party="bob"))
        if line.startswith("epoch")
    ]
    assert told == [
        "epoch 1/3: sent 18.4 MB as 700 kB (26.3x fewer)",
        "epoch 2/3: sent 18.4 MB as 700 kB (26.3x fewer)",
    ]


def test_nothing_is_told_of_an_epoch_that_never_began() -> None:
    failed = Progress(party="bob", session="s", state=PartyState.FAILED, message="no such file")
    assert lines(failed) == ["bob: failed", "bob: no such file"]


def test_a_long_wait_is_told_again_when_it_has_doubled() -> None:
    def wait(seconds: float) -> Progress:
        return event("bob", waiting_for="alice", waiting_s=seconds)

    told = lines(*map(wait, (1.0, 4.9, 5.0, 6.0, 9.9, 10.0, 19.0)), event("bob"), wait(5.5))
    assert [line for line in told if "waited" in line] == [
        "bob: has waited 5.00 s for alice",
        "bob: has waited 10.0 s for alice",
        "bob: has waited 5.50 s for alice",
    ]


def test_lines_stay_whole_and_harmless() -> None:
    told = lines(event("bob", epoch=1, message="bad\nreason \x1b[2J [red]" + "x" * 100))
    assert told[1] == "bob: bad\\nreason \\x1b[2J [red]" + "x" * 100
