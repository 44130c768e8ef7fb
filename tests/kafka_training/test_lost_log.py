"""Trainings whose log an operator, or the broker's retention, takes something from."""

from __future__ import annotations

import re
import signal
from pathlib import Path

import pytest

from tests.integration.faults import Fault
from tests.kafka.broker import Broker
from tests.kafka.login import Login
from tests.kafka_training.disabled import without
from tests.kafka_training.operator import Operator
from tests.kafka_training.training import PARTIES, Learned, training

pytest_plugins = ["tests.kafka.fixtures"]

pytestmark = pytest.mark.timeout(300)

LINKS = pytest.mark.parametrize(
    "link",
    [
        pytest.param(PARTIES, id="to-bob"),
        pytest.param(PARTIES[::-1], id="to-alice", marks=pytest.mark.long),
    ],
)

NAMED_S = 10.0
"""In which a party names a loss."""


def train_until_a_topic_is_deleted(
    broker: Broker, folder: Path, link: tuple[str, str], disabled: Fault | None = None
) -> None:
    """Delete a link in mid-training."""
    login = Login.to(broker.address)
    with training(folder, login, disabled=disabled) as made:
        made.start()
        made.reach(50)
        topic = made.watcher.topic(*link)
        Operator(login).delete_topic(topic)
        for name in PARTIES:
            said = made.end_of(name, NAMED_S)
            assert f"(topic {topic}" in said
            assert f"there is no topic {topic}" in said
            assert "it was never created, or has been deleted" in said


@LINKS
def test_a_topic_that_is_deleted(link: tuple[str, str], own_kafka: Broker, tmp_path: Path) -> None:
    train_until_a_topic_is_deleted(own_kafka, tmp_path, link)


@pytest.mark.long
def test_without_looking_for_it_a_deleted_topic_is_waited_for(
    own_kafka: Broker, tmp_path: Path
) -> None:
    with pytest.raises(AssertionError, match="did not end within"):
        train_until_a_topic_is_deleted(own_kafka, tmp_path, PARTIES, without("unknown_topics"))


def train_until_records_are_removed(
    broker: Broker, folder: Path, link: tuple[str, str], disabled: Fault | None = None
) -> None:
    """Remove all records of a link while bob is away."""
    login = Login.to(broker.address)
    with training(folder, login, disabled=disabled) as made:
        made.start()
        made.reach(50)
        made.party("bob").send(signal.SIGKILL)
        assert made.party("bob").end() == -signal.SIGKILL
        topic = made.watcher.topic(*link)
        made.party("alice").wait_for("waiting for=")
        Operator(login).remove_records(topic, before=made.watcher.end(topic))
        made.start("bob")
        said = made.end_of("bob", NAMED_S)
        assert re.search(rf"cannot read from \w+ \(topic {topic}, offset \d+\)", said)
        assert "older records were removed by the topic's retention" in said
        assert made.party("alice").status is None


@LINKS
def test_records_that_were_removed(
    link: tuple[str, str], own_kafka: Broker, tmp_path: Path
) -> None:
    train_until_records_are_removed(own_kafka, tmp_path, link)


@pytest.mark.long
def test_without_the_check_of_offsets_what_was_removed_is_waited_for(
    own_kafka: Broker, tmp_path: Path
) -> None:
    with pytest.raises(AssertionError, match="bob did not end within"):
        train_until_records_are_removed(own_kafka, tmp_path, PARTIES, without("offset_check"))


def train_with_a_lower_limit(
    broker: Broker, folder: Path, disabled: Fault | None = None
) -> Learned:
    """Lower a link's limit below an activation's size; raise it again once bob has ended."""
    login = Login.to(broker.address)
    with training(folder, login, disabled=disabled) as made:
        made.start()
        made.reach(50)
        topic = made.watcher.topic("bob", "alice")
        before = Operator(login).limit_records(topic, 10_000)
        said = made.end_of("bob", NAMED_S)
        assert re.search(r"cannot send \w+ of epoch \d+, step \d+ to alice", said)
        assert f"(topic {topic}" in said
        assert re.search(r"has \d{5} bytes of key, headers and value; the topic takes", said)
        assert "raise max.message.bytes (`slstream topology apply` sets what parties want)" in said
        Operator(login).limit_records(topic, before)
        made.start("bob")
        return made.finish()


@pytest.mark.long
def test_a_limit_below_a_record(own_kafka: Broker, tmp_path: Path, expected: Learned) -> None:
    assert train_with_a_lower_limit(own_kafka, tmp_path) == expected


@pytest.mark.long
def test_without_an_eye_on_limits_a_record_is_tried_again(
    own_kafka: Broker, tmp_path: Path
) -> None:
    with pytest.raises(AssertionError, match="bob did not end within"):
        train_with_a_lower_limit(own_kafka, tmp_path, without("record_limits"))
