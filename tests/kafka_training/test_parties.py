"""Trainings over Kafka whose parties are killed, stopped, or told to end."""

from __future__ import annotations

import shutil
import signal
from multiprocessing.connection import wait
from pathlib import Path
from time import monotonic, sleep

import pytest

from tests.integration.faults import Fault
from tests.integration.processes import whole_run
from tests.kafka.broker import Broker
from tests.kafka.login import Login
from tests.kafka_training.disabled import without
from tests.kafka_training.training import (
    PARTIES,
    Learned,
    Memory,
    measured,
    training,
)

pytest_plugins = ["tests.kafka.fixtures"]

pytestmark = pytest.mark.timeout(300)

END_S = 5.0
"""In which a party ends that is told to."""


def train_with_deaths(
    broker: Broker, folder: Path, deaths: int, disabled: Fault | None = None
) -> Learned:
    """Kill parties by turns, the last of them on a machine that is replaced by an empty one."""
    with training(folder, Login.to(broker.address), disabled=disabled) as made:
        made.start()
        for number in range(deaths):
            made.reach(200 // deaths * (number + 1))
            name = PARTIES[number % 2]
            made.party(name).send(signal.SIGKILL)
            assert made.party(name).end() == -signal.SIGKILL, made.said()
            if number >= deaths - 2:
                shutil.rmtree(made.run / name)
            made.start(name)
        return made.finish()


@pytest.mark.parametrize("deaths", [2, pytest.param(10, marks=pytest.mark.long)])
def test_parties_that_are_killed(
    deaths: int, own_kafka: Broker, tmp_path: Path, expected: Learned
) -> None:
    assert train_with_deaths(own_kafka, tmp_path, deaths) == expected


@pytest.mark.long
def test_without_looking_at_the_own_link_a_restarted_party_sends_twice(
    own_kafka: Broker, tmp_path: Path
) -> None:
    with pytest.raises(AssertionError, match=r"Seen.*duplicates"):
        train_with_deaths(own_kafka, tmp_path, 2, without("suppression"))


@pytest.mark.long
def test_parties_that_are_killed_at_once(
    own_kafka: Broker, tmp_path: Path, expected: Learned
) -> None:
    with training(tmp_path, Login.to(own_kafka.address)) as made:
        made.start()
        for step in (60, 120, 180):
            made.reach(step)
            for name in PARTIES:
                made.party(name).send(signal.SIGKILL)
            for name in PARTIES:
                made.party(name).end()
            made.start()
        assert made.finish() == expected


GROWTH_MIB = 16.0
"""By which a party's memory may grow while it waits for one that is slow."""


def train_with_a_slow_party(
    broker: Broker, folder: Path, slow: str, slow_s: float, disabled: Fault | None = None
) -> Learned:
    """Stop a party for some time, with whatever the other one sends unread."""
    (other,) = {*PARTIES} - {slow}
    with training(folder, Login.to(broker.address), disabled=disabled) as made:
        made.start()
        for step in (50, 100):
            made.reach(step)
            made.party(slow).send(signal.SIGSTOP)
            made.party(slow).wait_stopped()
            before = Memory.of(made, other)
            sent = made.watcher.end(made.watcher.topic(other, slow))
            sleep(slow_s)
            grown = before.growth(made)[other]
            more = made.watcher.end(made.watcher.topic(other, slow)) - sent
            measured(f"{slow} stopped: {other}'s memory grew by {grown} MiB, its link by {more}")
            made.party(slow).send(signal.SIGCONT)
            assert grown < GROWTH_MIB
            # A step, and the batches that are evaluated after an epoch.
            assert more <= 8
        return made.finish()


@pytest.mark.long
@pytest.mark.parametrize("slow", ["bob", pytest.param("alice", marks=pytest.mark.long)])
def test_a_party_that_is_slow_costs_the_other_no_memory(
    slow: str, own_kafka: Broker, tmp_path: Path, expected: Learned
) -> None:
    assert train_with_a_slow_party(own_kafka, tmp_path, slow, 2) == expected


@pytest.mark.long
def test_memory_that_grows_is_seen(own_kafka: Broker, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=r"assert [\d.]+ < 16"):
        train_with_a_slow_party(own_kafka, tmp_path, "bob", 8, without("bounded_memory"))


@pytest.mark.long
def test_a_link_that_grows_beyond_the_window_is_seen(own_kafka: Broker, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=r"assert \d+ <= 8"):
        train_with_a_slow_party(own_kafka, tmp_path, "bob", 8, without("window"))


def end_parties(broker: Broker, folder: Path, *, gone: bool, disabled: Fault | None = None) -> None:
    """Tell both parties to end when the broker does nothing any more."""
    with training(folder, Login.to(broker.address), disabled=disabled) as made:
        made.start()
        made.reach(50)
        broker.kill() if gone else broker.freeze()
        # One is waiting, and one has something to send.
        sleep(1)
        began = monotonic()
        for name in PARTIES:
            made.party(name).send(signal.SIGTERM)
        for name in PARTIES:
            assert wait([made.party(name).sentinel], END_S), f"{name} takes longer: {made.said()}"
            measured(f"{name} ended after {monotonic() - began:.1f} s, gone={gone}")
            assert monotonic() - began < END_S
            assert made.party(name).end() == 130
            stopped = f"stopped: {name} was interrupted by SIGTERM; its session stays open"
            assert stopped in made.party(name).text


@pytest.mark.parametrize(
    "gone",
    [
        pytest.param(True, id="killed"),
        pytest.param(False, id="frozen", marks=pytest.mark.long),
    ],
)
def test_parties_end_at_once_without_the_broker(
    gone: bool, own_kafka: Broker, tmp_path: Path
) -> None:
    end_parties(own_kafka, tmp_path, gone=gone)


@pytest.mark.long
def test_without_the_hard_way_parties_do_not_end(own_kafka: Broker, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="takes longer"):
        end_parties(own_kafka, tmp_path, gone=True, disabled=without("hard_close"))


@pytest.mark.long
@pytest.mark.parametrize("gone", [True, False], ids=["killed", "frozen"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda n: n.name)
def test_a_run_ends_at_once_without_the_broker_and_goes_on(
    number: signal.Signals, gone: bool, own_kafka: Broker, tmp_path: Path, expected: Learned
) -> None:
    login = Login.to(own_kafka.address)
    with training(tmp_path, login) as made, whole_run(made.topology, made.run) as program:
        made.watcher.wait_for("5/1", lambda: None)
        own_kafka.kill() if gone else own_kafka.freeze()
        sleep(1)
        began = monotonic()
        program.process.send_signal(number)
        assert program.end(20) == 130, program.text
        took_s = monotonic() - began
        measured(f"the run ended after {took_s:.1f} s, {number.name}, gone={gone}")
        assert took_s < END_S
        own_kafka.start() if gone else own_kafka.thaw()
        with whole_run(made.topology, made.run) as again:
            assert again.end(120) == 0, again.text
        assert Learned.of(made.run) == expected
