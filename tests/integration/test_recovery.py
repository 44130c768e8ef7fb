"""A party may die anywhere and come back: the session ends with the bits of an undisturbed one."""

from __future__ import annotations

import json
import re
import shutil
import signal
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.integration.faults import AtAppend, AtFile, Fault
from tests.integration.forked_party import ForkedParty, all_ended
from tests.integration.recovered_session import (
    PARTIES,
    Result,
    assert_all_end,
    summaries,
    train,
    write_small,
)
from tests.integration.session_log import SessionLog, sender_of

pytestmark = pytest.mark.timeout(240)

FROM_ALICE, FROM_BOB, FROM_CAROL = ".alice-to-bob.", ".bob-to-alice.", ".carol-to-alice."


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that nothing has disturbed, in ``run``."""
    folder = tmp_path_factory.mktemp("undisturbed")
    train(write_small(folder), folder / "run")
    return folder


@pytest.fixture(scope="module")
def expected(undisturbed: Path) -> Result:
    return Result.of(undisturbed / "run")


def at(
    topic: str, kind: str, step: str = "", *, before: bool = False, stop: bool = False
) -> AtAppend:
    number = signal.SIGSTOP if stop else signal.SIGKILL
    return AtAppend(topic=topic, kind=kind, step=step, before=before, number=number)


CHAINS: dict[str, dict[str, list[Fault]]] = {
    "opening": {
        "alice": [
            at(".lobby", "announce", before=True),
            at(".lobby", "announce"),
            at(FROM_ALICE, "match", before=True),
            at(FROM_ALICE, "open"),
        ],
        "bob": [at(FROM_BOB, "join", before=True), at(FROM_BOB, "join"), at(FROM_BOB, "ids")],
        "carol": [at(FROM_CAROL, "ready")],
    },
    # Checkpoints come after the steps 2 and 4 of each epoch.
    "training": {
        "alice": [
            at(FROM_ALICE, "gradient", "1/3"),
            at(FROM_ALICE, "gradient", "2/2", before=True),
        ],
        "bob": [
            # Several times before the first checkpoint, also while it catches up.
            at(FROM_BOB, "activation", "1/1"),
            at(FROM_BOB, "fence"),
            at(FROM_BOB, "activation", "1/2", before=True),
            at(FROM_BOB, "evaluation", "1/1"),
            at(FROM_BOB, "activation", "3/3", before=True),
        ],
        "carol": [at(FROM_CAROL, "activation", "2/3"), at(FROM_CAROL, "evaluation", "2/1")],
    },
    "checkpoints": {
        "alice": [AtFile(name="00000-0000002.safetensors")],
        "bob": [
            AtFile(name="00000-0000002.safetensors"),
            AtFile(name="00000-0000004.safetensors", share=1.0),
            AtFile(name="00002-0000002.safetensors", share=0.0),
        ],
        "carol": [AtFile(name="00001-0000000.safetensors", share=1.0)],
    },
    "end": {
        "alice": [
            at(FROM_ALICE, "gradient", "3/5"),
            at(FROM_ALICE, "verdict", before=True),
            AtFile(name="alice/model.safetensors"),
            at(FROM_ALICE, "end"),
            at(".lobby", "close", before=True),
        ],
        "bob": [
            AtFile(name="00002-0000004.safetensors"),
            at(FROM_BOB, "done", before=True),
            at(FROM_BOB, "done"),
        ],
        "carol": [
            at(FROM_CAROL, "evaluation", "3/1"),
            AtFile(name="carol/model.safetensors", share=1.0),
            AtFile(name="carol/summary.json"),
        ],
    },
}
"""Deaths of one session, by where in it they are."""


def start_all(
    topology: Path, run: Path, faults: Mapping[str, AtAppend] | None = None, *more: str
) -> list[ForkedParty]:
    """All parties, in their order."""
    given = faults or {}
    return [ForkedParty(name, topology, run, *more, fault=given.get(name)) for name in PARTIES]


@pytest.mark.parametrize("chain", CHAINS)
def test_deaths_in_one_session(chain: str, tmp_path: Path, expected: Result) -> None:
    assert train(write_small(tmp_path), tmp_path / "run", CHAINS[chain]) == expected


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_a_death_before_and_after_every_record(
    tmp_path: Path, undisturbed: Path, expected: Result
) -> None:
    topology = write_small(tmp_path)
    for place in SessionLog(undisturbed / "run").places():
        # After it has closed the session the label party would begin another.
        for before in (True, False)[: 1 if place[1] == "close" else 2]:
            fault = at(*place, before=before)
            run = tmp_path / "one" / "run"
            assert train(topology, run, {sender_of(place): [fault]}) == expected, fault
            shutil.rmtree(run.parent)


def test_all_die_at_once_and_an_empty_disk(tmp_path: Path, expected: Result) -> None:
    topology, run = write_small(tmp_path), tmp_path / "run"
    with all_ended([]) as started:

        def start_and_kill_all(name: str, fault: AtAppend) -> None:
            """In the middle, as one is stopped there; the others wait for it."""
            started[:] = start_all(topology, run, {name: fault})
            started[PARTIES.index(name)].wait_stopped()
            for each in started:
                each.send(signal.SIGKILL)
            for each in started:
                assert each.end() == -signal.SIGKILL, each.text

        start_and_kill_all("bob", at(FROM_BOB, "activation", "2/2", stop=True))
        for name in ("alice", "bob"):
            shutil.rmtree(run / name)
        start_and_kill_all("carol", at(FROM_CAROL, "activation", "2/4", stop=True))
        started[:] = start_all(topology, run)
        assert_all_end(started)
        assert "checkpoint loaded" in started[2].text
    assert Result.of(run) == expected
    log = SessionLog(run)
    assert log.divergences("bob") == log.divergences("alice") == []


def test_one_that_has_finished_is_not_needed_any_more(tmp_path: Path, expected: Result) -> None:
    topology, run = write_small(tmp_path), tmp_path / "run"
    with all_ended([]) as started:
        started += [ForkedParty(name, topology, run) for name in ("bob", "carol")]
        bob, carol = started
        alice = ForkedParty("alice", topology, run, fault=at(FROM_ALICE, "end"))
        started.append(alice)
        assert alice.end() == -signal.SIGKILL
        assert_all_end([bob])
        carol.send(signal.SIGKILL)
        again = ForkedParty("bob", topology, run)
        started.append(again)
        assert_all_end([again])
        assert "nothing is left to do in the session" in again.text
        started += [ForkedParty(name, topology, run) for name in ("alice", "carol")]
        assert_all_end(started[-2:])
    assert Result.of(run) == expected


def damage(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1  # of a tensor: what lies in the middle depends on how long numbers of seconds are
    path.write_bytes(data)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def test_damaged_checkpoints_are_skipped(tmp_path: Path, expected: Result) -> None:
    topology, run = write_small(tmp_path), tmp_path / "run"
    log = SessionLog(run)
    with all_ended([]) as started:
        carols = ForkedParty("carol", topology, run)
        alices = ForkedParty("alice", topology, run, fault=at(FROM_ALICE, "gradient", "2/3"))
        bobs = ForkedParty("bob", topology, run, fault=at(FROM_BOB, "activation", "2/3"))
        started += [alices, bobs, carols]
        assert bobs.end() == -signal.SIGKILL
        newest, older = checkpoints(run, "bob")[-1:-3:-1]
        damage(newest)
        bob = ForkedParty("bob", topology, run)
        started.append(bob)
        assert alices.end() == -signal.SIGKILL
        all_of_hers = checkpoints(run, "alice")
        for path in all_of_hers:
            cut(path)
        alice = ForkedParty("alice", topology, run)
        started.append(alice)
        assert_all_end([alice, bob, carols])
    assert f"warning checkpoint skipped path={newest}" in bob.text
    assert "it is damaged" in bob.text
    epochs, steps = older.stem.split("-")
    assert f"checkpoint loaded epochs={int(epochs)} steps={int(steps)}" in bob.text
    assert alice.text.count("checkpoint skipped") == len(all_of_hers) >= 2
    assert "checkpoint loaded" not in alice.text
    assert Result.of(run) == expected
    assert log.divergences("alice") == []


def checkpoints(run: Path, party: str) -> list[Path]:
    return sorted(run.glob(f"{party}/checkpoints/*/*.safetensors"))


DRIFTING = """\
from pathlib import Path

import torch


class Drifting(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = torch.nn.Linear(2, 3)
        self.scale = 1.001 if Path(__file__).with_name("drift").exists() else 1.0

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return self.inner(rows) * self.scale
"""


def test_other_bits_are_recorded_and_those_that_were_sent_stand(tmp_path: Path) -> None:
    topology, run = write_small(tmp_path), tmp_path / "run"
    (tmp_path / "drifting.py").write_text(DRIFTING)
    document = json.loads(topology.read_text())
    document["parties"]["bob"]["base"] = {"model": "drifting:Drifting"}
    topology.write_text(json.dumps(document))
    log = SessionLog(run)
    with all_ended([]) as started:
        started += [ForkedParty(name, topology, run) for name in ("alice", "carol")]
        dying = ForkedParty("bob", topology, run, fault=at(FROM_BOB, "activation", "2/2"))
        started.append(dying)
        assert dying.end() == -signal.SIGKILL
        (tmp_path / "drift").touch()
        bob = ForkedParty("bob", topology, run, "--set", "threads=2")
        started.append(bob)
        assert_all_end([*started[:2], bob])
    assert "environment changed: other bits may follow what=threads before=1 now=2" in bob.text
    assert "recomputed other bits than were sent; those that were sent stand" in bob.text
    # The join, which tells the environment; then from a checkpoint on, until what came was new. The
    # one between the epochs may not have been written yet.
    recorded = log.divergences("bob")
    places = [(each["kind"], each["epoch"], each["step"]) for each in recorded]
    epoch_2 = [("activation", 2, 1), ("activation", 2, 2)]
    end_of_epoch_1 = [("activation", 1, 5), ("evaluation", 1, 1)]
    assert places[0] == ("control", 0, 0)
    assert places[1:] in (epoch_2, [*end_of_epoch_1, *epoch_2])
    assert all(each["logged_sha256"] != each["computed_sha256"] for each in recorded)
    found = summaries(run)
    assert found["alice"].weights == found["bob"].weights == found["carol"].weights
    assert log.link("bob", "alice").frames == sum(entry.frames for entry in found["bob"].traffic)


def test_a_checkpoint_that_cannot_be_written_ends_the_party_only(
    tmp_path: Path, expected: Result
) -> None:
    topology, run = write_small(tmp_path), tmp_path / "run"
    (run / "bob").mkdir(parents=True)
    obstacle = run / "bob" / "checkpoints"
    obstacle.write_text("in the way")
    with all_ended([]) as started:
        started += start_all(topology, run)
        alice, bob, carol = started
        assert bob.end() == 1
        assert re.search(f"^error: cannot (read|write) {obstacle}", bob.text, re.M), bob.text
        assert "Traceback" not in bob.text
        obstacle.unlink()
        started.append(ForkedParty("bob", topology, run))
        assert_all_end([alice, started[-1], carol])
    assert Result.of(run) == expected


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda n: n.name)
def test_a_party_that_was_interrupted_goes_on(
    number: signal.Signals, tmp_path: Path, expected: Result
) -> None:
    topology, run = write_small(tmp_path), tmp_path / "run"
    log = SessionLog(run)
    with all_ended([]) as started:
        started += [ForkedParty(name, topology, run) for name in ("bob", "carol")]
        leaving = ForkedParty(
            "alice",
            topology,
            run,
            fault=AtAppend(topic=FROM_ALICE, kind="gradient", step="2/3", number=number),
        )
        started.append(leaving)
        assert leaving.end() == 130
        assert f"stopped: alice was interrupted by {number.name}" in leaving.text
        assert "its session stays open" in leaving.text
        started.append(ForkedParty("alice", topology, run))
        assert_all_end([*started[:2], started[-1]])
        assert "checkpoint loaded epochs=1 steps=2" in started[-1].text
    assert Result.of(run) == expected
    assert [kind for kind, _, _ in log.lobby()] == ["announce", "resume", "close"]


@pytest.mark.parametrize("away", ["bob", "alice"])
def test_one_that_is_away_is_named_until_the_others_give_up(
    away: str, tmp_path: Path, expected: Result
) -> None:
    topology, run = write_small(tmp_path), tmp_path / "run"
    log = SessionLog(run)
    topic = FROM_BOB if away == "bob" else FROM_ALICE
    kind = "activation" if away == "bob" else "gradient"
    others = [name for name in PARTIES if name != away]
    impatient = ("--set", "timeouts.peer_s=5")
    with all_ended([]) as started:
        started.append(ForkedParty(away, topology, run, fault=at(topic, kind, "2/3", before=True)))
        started += [ForkedParty(name, topology, run, *impatient) for name in others]
        statuses = {each.name: each.end() for each in started}
        assert statuses == {away: -signal.SIGKILL} | dict.fromkeys(others, 1)
        waiting = {each.name: each for each in started}["alice" if away == "bob" else "bob"]
        place = f"{topic.strip('.')}.{log.lobby()[0][1]}, offset "
        for text in (
            f"error: no sign of {away} for ",
            f"{away}'s {kind} of epoch 2, step 3",
            place,
        ):
            assert text in waiting.text
        report = log.wait_for_progress(waiting.name, lambda p: p.waiting_s >= 1)
        assert report.waiting_for == f"{away}'s {kind} of epoch 2, step 3"
        started[:] = start_all(topology, run)
        assert_all_end(started)
        assert all("checkpoint loaded epochs=1" in each.text for each in started)
    assert Result.of(run) == expected


def test_after_the_end_comes_a_new_session_and_after_a_change_too(
    tmp_path: Path, expected: Result
) -> None:
    topology, run = write_small(tmp_path), tmp_path / "run"
    log = SessionLog(run)
    train(topology, run)
    # Another seed: this session is left unfinished.
    other = ("--set", "seed=4")
    with all_ended([]) as started:
        fault = at(FROM_BOB, "activation", "2/2", stop=True)
        started += start_all(topology, run, {"bob": fault}, *other)
        started[PARTIES.index("bob")].wait_stopped()
        for each in started:
            each.send(signal.SIGKILL)
        for each in started:
            each.end()
        # Not given up unasked.
        started[:] = [ForkedParty("alice", topology, run)]
        assert started[0].end() == 1
        assert "begun with another topology: seed is 3 here, 4 there" in started[0].text
        assert "--new" in started[0].text
        new = {"alice": ("--new",)}
        started[:] = [ForkedParty(name, topology, run, *new.get(name, ())) for name in PARTIES]
        assert_all_end(started)
    lobby = log.lobby()
    kinds = [(kind, outcome) for kind, _, outcome in lobby]
    assert kinds == [
        ("announce", ""),
        ("close", "finished"),
        ("announce", ""),
        ("announce", ""),
        ("close", "abandoned"),
        ("close", "finished"),
    ]
    sessions = [session for kind, session, _ in lobby if kind == "announce"]
    assert len(set(sessions)) == 3
    assert summaries(run)["alice"].session == sessions[2]
    assert Result.of(run) == expected


@pytest.mark.parametrize("change", [(), ("--set", "seed=4")], ids=["same", "other topology"])
def test_one_that_lacks_the_end_of_a_session_takes_part_in_the_next(
    change: tuple[str, ...], tmp_path: Path
) -> None:
    topology, run = write_small(tmp_path), tmp_path / "run"
    train(topology, run)
    (run / "bob" / "summary.json").unlink()
    with all_ended([]) as started:
        started += [ForkedParty(name, topology, run, *change) for name in ("alice", "carol")]
        SessionLog(run).wait_for_announcements(2)
        started.append(ForkedParty("bob", topology, run, *change))
        assert_all_end(started)
        assert started[-1].text.count("session joined") == (1 if change else 2)
    assert len({each.session for each in summaries(run).values()}) == 1
