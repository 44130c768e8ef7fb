"""Trainings whose broker is killed, frozen, without room, or late."""

from __future__ import annotations

import re
from pathlib import Path
from time import monotonic, sleep

import pytest

from slstream.transport.kafka.transport import STUCK_S
from tests.integration.faults import Fault
from tests.kafka.broker import Broker
from tests.kafka.handles import StartKafka
from tests.kafka.login import Login
from tests.kafka.settings import BrokerSettings
from tests.kafka_training.disabled import without
from tests.kafka_training.training import (
    GROWTH_MIB,
    PARTIES,
    Learned,
    Memory,
    measured,
    training,
)

pytest_plugins = ["tests.kafka.fixtures"]

pytestmark = pytest.mark.timeout(300)

NAMED_S = STUCK_S + 30.0
"""In which a party names a failure that does not pass."""


def train_with_kills(
    broker: Broker, folder: Path, kills: int, disabled: Fault | None = None
) -> Learned:
    """Kill the broker in mid-training and start it again, some times."""
    with training(folder, Login.to(broker.address), disabled=disabled) as made:
        made.start()
        before: Memory | None = None
        for number in range(kills):
            made.reach(20 * number + 11)
            broker.kill()
            assert made.is_training, made.said()
            before = before or Memory.of(made)
            broker.start()
        made.reach(20 * kills)
        assert before is not None
        grown = before.growth(made)
        measured(f"{kills} kills: memory grew by {grown} MiB")
        assert max(grown.values()) < GROWTH_MIB
        return made.finish()


@pytest.mark.parametrize("kills", [2, pytest.param(10, marks=pytest.mark.long)])
def test_a_broker_that_is_killed_again_and_again(
    kills: int, own_kafka: Broker, tmp_path: Path, expected: Learned
) -> None:
    assert train_with_kills(own_kafka, tmp_path, kills) == expected


@pytest.mark.long
def test_without_patience_a_killed_broker_ends_the_training(
    own_kafka: Broker, tmp_path: Path
) -> None:
    with pytest.raises(AssertionError, match=r"within 0\.5 s at "):
        train_with_kills(own_kafka, tmp_path, 1, without("patience"))


def train_frozen(
    broker: Broker, folder: Path, frozen_s: float, disabled: Fault | None = None
) -> Learned:
    """Freeze the broker in mid-training."""
    with training(folder, Login.to(broker.address), disabled=disabled) as made:
        made.start()
        made.reach(50)
        broker.freeze()
        try:
            before = Memory.of(made)
            sleep(frozen_s)
            assert made.is_training, made.said()
            grown = before.growth(made)
        finally:
            broker.thaw()
        measured(f"frozen for {frozen_s} s: memory grew by {grown} MiB")
        assert max(grown.values()) < GROWTH_MIB
        began = monotonic()
        made.reach(100)
        measured(f"50 steps {monotonic() - began:.1f} s after it thawed")
        return made.finish()


@pytest.mark.long
def test_a_broker_that_is_frozen(own_kafka: Broker, tmp_path: Path, expected: Learned) -> None:
    assert train_frozen(own_kafka, tmp_path, 30) == expected


@pytest.mark.long
def test_without_patience_a_frozen_broker_ends_the_training(
    own_kafka: Broker, tmp_path: Path
) -> None:
    with pytest.raises(AssertionError, match=r"within 0\.5 s at "):
        train_frozen(own_kafka, tmp_path, 5, without("patience"))


def train_with_a_full_disk(
    start_kafka: StartKafka, folder: Path, disabled: Fault | None = None
) -> Learned:
    """Fill the disk in mid-training; once there is room, go on where it ended."""
    broker = start_kafka(BrokerSettings(disks=2))
    with training(folder, Login.to(broker.address), disabled=disabled) as made:
        made.start()
        made.reach(30)
        # The larger link grows by 20 kB with each step.
        broker.fill_disk(400_000)
        # Who finds no room depends on which topics lie on the disk. The broker gives all of them up
        # at once, so the others only see that they have no leader any more.
        name = made.first_to_end(NAMED_S)
        said = made.end_of(name, NAMED_S)
        assert re.search(
            r"cannot send \w+ of epoch \d+, step \d+ to \w+ \(topic small\..*the disk of the "
            r"partition's leader failed or is full.*Make room on the broker's disk and start the "
            r"broker again"
            r"|\(topic small\..*has no leader\. See whether the broker runs and can be reached",
            said,
        ), said
        broker.restart()
        for each in PARTIES:
            if made.party(each).status is not None:
                made.start(each)
        return made.finish()


@pytest.mark.long
def test_a_full_disk(start_kafka: StartKafka, tmp_path: Path, expected: Learned) -> None:
    assert train_with_a_full_disk(start_kafka, tmp_path) == expected


@pytest.mark.long
def test_without_looking_at_errors_a_full_disk_is_waited_for(
    start_kafka: StartKafka, tmp_path: Path
) -> None:
    with pytest.raises(AssertionError, match="nobody has ended within"):
        train_with_a_full_disk(start_kafka, tmp_path, without("disk_failures"))


def train_before_the_broker(broker: Broker, folder: Path, disabled: Fault | None = None) -> Learned:
    """Start the parties first."""
    broker.kill()
    with training(folder, Login.to(broker.address), disabled=disabled) as made:
        made.start()
        for name in PARTIES:
            made.party(name).wait_for("broker lost, trying again")
        broker.start()
        return made.finish()


@pytest.mark.long
def test_parties_that_are_up_before_the_broker(
    own_kafka: Broker, tmp_path: Path, expected: Learned
) -> None:
    assert train_before_the_broker(own_kafka, tmp_path) == expected


@pytest.mark.long
def test_without_patience_parties_need_the_broker_first(own_kafka: Broker, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=r"open the log within 1\.5 s at "):
        train_before_the_broker(own_kafka, tmp_path, without("patience_at_first"))
