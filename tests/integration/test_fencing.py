"""Of several processes of a party the newest counts; the others end and nothing of theirs does."""

from __future__ import annotations

import signal
from pathlib import Path
from time import monotonic

import pytest

from slstream.party.driver import MOST_UNDER_WAY
from tests.integration.faults import AtAppend
from tests.integration.forked_party import ForkedParty, all_ended
from tests.integration.recovered_session import (
    PARTIES,
    Result,
    assert_all_end,
    train,
    write_small,
)
from tests.integration.session_log import SessionLog

pytestmark = pytest.mark.timeout(240)

END_S = 15.0
"""Within a few seconds, but for a busy machine."""


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> Result:
    """What an undisturbed run comes to."""
    folder = tmp_path_factory.mktemp("undisturbed")
    return train(write_small(folder), folder / "run")


def sleeping_before(topic: str, kind: str, step: str) -> AtAppend:
    """SIGSTOP right before a frame: when it wakes, to append it is the first that it does."""
    return AtAppend(topic=topic, kind=kind, step=step, before=True, number=signal.SIGSTOP)


@pytest.mark.parametrize("when", ["later", "at the fence"])
@pytest.mark.parametrize("name", ["bob", "alice"])
def test_one_that_wakes_behind_its_successor_is_fenced(
    name: str, when: str, tmp_path: Path, expected: Result
) -> None:
    topology, run = write_small(tmp_path), tmp_path / "run"
    peer = "alice" if name == "bob" else "carol"
    kind = "activation" if name == "bob" else "gradient"
    log = SessionLog(run)
    with all_ended([]) as started:
        fault = sleeping_before(f".{name}-to-{peer}.", kind, "2/3")
        old = ForkedParty(name, topology, run, fault=fault)
        others = [ForkedParty(each, topology, run) for each in PARTIES if each != name]
        started += [old, *others]
        old.wait_stopped()
        # The successor sleeps, too, so that the training is still going on: when it has sent some
        # more frames, or none at all.
        fault = sleeping_before(f".{name}-to-{peer}.", kind, "3/2")
        if when == "at the fence":
            fault = AtAppend(topic=f".{name}-to-{peer}.", kind="fence", number=signal.SIGSTOP)
        gate = ForkedParty(name, topology, run, fault=fault)
        started.append(gate)
        gate.wait_stopped()
        old.send(signal.SIGCONT)
        woken = monotonic()
        assert old.end(END_S) == 1
        assert monotonic() - woken < END_S
        assert f"error: another process of {name} has " in old.text
        assert "Traceback" not in old.text
        written = log.link(name, peer).fenced
        # Its frame, and maybe others before the first was confirmed: all ignore them.
        assert 1 <= written <= MOST_UNDER_WAY
        gate.send(signal.SIGCONT)
        assert_all_end([gate, *others])
    assert Result.of(run) == expected
    assert log.link(name, peer).fenced == written
    assert not log.divergences(name)


def test_one_that_wakes_when_all_is_over_is_fenced(tmp_path: Path, expected: Result) -> None:
    topology, run = write_small(tmp_path), tmp_path / "run"
    with all_ended([]) as started:
        fault = sleeping_before(".bob-to-alice.", "evaluation", "2/1")
        old = ForkedParty("bob", topology, run, fault=fault)
        started += [old, *(ForkedParty(name, topology, run) for name in ("alice", "carol"))]
        old.wait_stopped()
        started.append(ForkedParty("bob", topology, run))
        assert_all_end(started[1:])
        found = Result.of(run)
        old.send(signal.SIGCONT)
        assert old.end(END_S) == 1
        assert "error: another process of bob has " in old.text
    assert found == Result.of(run) == expected


@pytest.mark.parametrize(
    ("kind", "step", "file"),
    [("evaluation", "3/1", "model.safetensors"), ("done", "", "summary.json")],
)
def test_one_that_wakes_when_all_is_over_writes_no_file(
    kind: str, step: str, file: str, tmp_path: Path, expected: Result
) -> None:
    """Right behind its last frame before that file: there is nothing to be fenced off from."""
    topology, run = write_small(tmp_path), tmp_path / "run"
    with all_ended([]) as started:
        fault = AtAppend(topic=".bob-to-alice.", kind=kind, step=step, number=signal.SIGSTOP)
        old = ForkedParty("bob", topology, run, fault=fault)
        started += [old, *(ForkedParty(name, topology, run) for name in ("alice", "carol"))]
        old.wait_stopped()
        started.append(ForkedParty("bob", topology, run))
        assert_all_end(started[1:])
        assert Result.of(run) == expected
        (run / "bob" / file).unlink()
        old.send(signal.SIGCONT)
        assert old.end(END_S) == 1
        assert "error: another process of bob has " in old.text
        assert not (run / "bob" / file).exists()


@pytest.mark.parametrize("name", ["bob", "alice"])
def test_two_at_the_same_moment(name: str, tmp_path: Path, expected: Result) -> None:
    race(name, tmp_path, expected)


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", ["bob", "alice"])
def test_two_at_the_same_moment_fifty_times(name: str, tmp_path: Path, expected: Result) -> None:
    for number in range(50):
        race(name, tmp_path / str(number), expected)


def race(name: str, folder: Path, expected: Result) -> None:
    """Both go on before the others have come, so that neither can end before both have begun."""
    folder.mkdir(exist_ok=True)
    topology, run = write_small(folder), folder / "run"
    log = SessionLog(run)
    with all_ended([]) as started:
        twins = [ForkedParty(name, topology, run) for _ in range(2)]
        started += twins
        log.wait_for_incarnations(name, 2)
        others = [ForkedParty(each, topology, run) for each in PARTIES if each != name]
        started += others
        statuses = sorted(each.end() for each in twins)
        assert statuses == [0, 1], [each.text for each in started]
        (loser,) = [each for each in twins if each.status == 1]
        assert f"error: another process of {name} has " in loser.text or (
            "was closed by another process" in loser.text
        )
        assert_all_end(others)
    assert Result.of(run) == expected


def test_a_session_that_a_fenced_process_announced_is_left(
    tmp_path: Path, expected: Result
) -> None:
    topology, run = write_small(tmp_path), tmp_path / "run"
    log = SessionLog(run)

    def before(kind: str) -> AtAppend:
        return AtAppend(topic=".lobby", kind=kind, before=True, number=signal.SIGSTOP)

    with all_ended([]) as started:
        old = ForkedParty("alice", topology, run, fault=before("announce"))
        started.append(old)
        old.wait_stopped()
        new = ForkedParty("alice", topology, run, fault=before("announce"))
        started.append(new)
        new.wait_stopped()
        # The new one has found no session; now there is one that nobody leads.
        old.send(signal.SIGCONT)
        log.wait_for_announcements(1)
        others = [ForkedParty(name, topology, run) for name in ("bob", "carol")]
        started += others
        assert old.end(END_S) == 1
        for each in others:
            each.wait_for("session joined")
        new.send(signal.SIGCONT)
        assert_all_end([new, *others])
    assert Result.of(run) == expected


def test_one_that_waits_for_a_session_notices_its_successor(tmp_path: Path) -> None:
    topology, run = write_small(tmp_path), tmp_path / "run"
    with all_ended([]) as started:
        old = ForkedParty("bob", topology, run)
        started.append(old)
        old.wait_for("waiting")
        started.append(ForkedParty("bob", topology, run))
        assert old.end(END_S) == 1
        assert "error: another process of bob has " in old.text
