"""Trainings in which each party is a user of its own, whose rights come late or are taken away."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from time import monotonic

import pytest

from tests.integration.faults import Fault
from tests.kafka import finding
from tests.kafka.broker import ProcessBroker
from tests.kafka.cluster import KafkaCluster
from tests.kafka.handles import StartKafka
from tests.kafka.jars import NoKafkaError
from tests.kafka.proxy import Proxy
from tests.kafka.settings import ADMIN, BrokerSettings
from tests.kafka_training.disabled import without
from tests.kafka_training.operator import Operator
from tests.kafka_training.training import GROWTH_MIB, PARTIES, Learned, Memory, measured
from tests.kafka_training.users import Users

pytest_plugins = ["tests.kafka.fixtures"]

pytestmark = pytest.mark.timeout(300)

NAMED_S = 10.0
"""In which a party says that it may not."""


SECURED = BrokerSettings(listeners=("SASL_PLAINTEXT",), users=Users.PASSWORDS, authorizer=True)
"""Each party is a user of its own."""


@pytest.fixture
def broker(start_kafka: StartKafka) -> ProcessBroker:
    """With users and an authorizer."""
    return start_kafka(SECURED)


def train_while_rights_are_removed(
    broker: ProcessBroker, folder: Path, disabled: Fault | None = None
) -> Learned:
    """Remove bob's rights in mid-training; grant them again once he has ended."""
    users = Users(broker.address)
    with users.training(folder, disabled=disabled) as made:
        users.apply(made.topology)
        made.start()
        made.reach(50)
        before = Memory.of(made, "alice")
        Operator(users.login()).forbid("bob")
        said = made.end_of("bob", NAMED_S)
        # Bob has ended; it is alice who waits.
        grown = before.growth(made)
        measured(f"rights removed: memory grew by {grown} MiB")
        assert max(grown.values()) < GROWTH_MIB
        # Of its two links: while an activation is under way, its gradient is read already.
        links = [made.watcher.topic(*each) for each in (("bob", "alice"), ("alice", "bob"))]
        assert any(f"(topic {link}" in said for link in links)
        assert re.search("does not allow [A-Z_]+ to this user", said)
        assert "`slstream topology apply`" in said
        assert Users.PASSWORDS["bob"] not in made.said()
        users.apply(made.topology)
        made.start("bob")
        return made.finish()


@pytest.mark.long
def test_rights_that_are_removed(broker: ProcessBroker, tmp_path: Path, expected: Learned) -> None:
    assert train_while_rights_are_removed(broker, tmp_path) == expected


@pytest.mark.long
def test_without_heeding_refusals_missing_rights_are_waited_for(
    broker: ProcessBroker, tmp_path: Path
) -> None:
    with pytest.raises(AssertionError, match="bob did not end within"):
        train_while_rights_are_removed(broker, tmp_path, without("refusals"))


def train_while_a_user_is_removed(
    start_kafka: StartKafka, folder: Path, disabled: Fault | None = None
) -> Learned:
    """Remove bob's credentials and cut all connections; let him in again once he has ended."""
    with Proxy() as proxy:
        broker = start_kafka(SECURED, advertised_port=proxy.port)
        proxy.upstream = broker.address
        users = Users(proxy.address)
        with users.training(folder, disabled=disabled) as made:
            users.apply(made.topology)
            made.start()
            made.reach(50)
            Operator(users.login()).remove_user("bob")
            proxy.cut()
            said = made.end_of("bob", NAMED_S)
            assert "(topic small." in said
            assert "this user and the broker do not trust each other" in said
            assert "credentials" in said
            assert Users.PASSWORDS["bob"] not in made.said()
            Operator(users.login()).add_user("bob", users.passwords["bob"])
            made.start("bob")
            return made.finish()


@pytest.mark.long
def test_a_user_that_is_removed(start_kafka: StartKafka, tmp_path: Path, expected: Learned) -> None:
    assert train_while_a_user_is_removed(start_kafka, tmp_path) == expected


@pytest.mark.long
def test_without_heeding_refusals_a_removed_user_tries_again(
    start_kafka: StartKafka, tmp_path: Path
) -> None:
    with pytest.raises(AssertionError, match="bob did not end within"):
        train_while_a_user_is_removed(start_kafka, tmp_path, without("refusals"))


def train_before_rights(
    broker: ProcessBroker, folder: Path, disabled: Fault | None = None
) -> Learned:
    """Start the parties before anything was provided for them, and again after."""
    users = Users(broker.address)
    with users.training(folder, disabled=disabled) as made:
        made.start()
        for name in PARTIES:
            said = made.end_of(name, NAMED_S)
            assert "small." in said
            assert f"slstream topology apply {made.topology}" in said
        users.apply(made.topology)
        made.start()
        return made.finish()


@pytest.mark.long
def test_parties_that_are_up_before_their_rights(
    broker: ProcessBroker, tmp_path: Path, expected: Learned
) -> None:
    assert train_before_rights(broker, tmp_path) == expected


@pytest.fixture
def cluster() -> Iterator[KafkaCluster]:
    """Three brokers, with users and an authorizer."""
    try:
        made = KafkaCluster(finding.process_jars(), Users.PASSWORDS)
    except NoKafkaError as error:
        finding.no_kafka(error)
    try:
        made.start()
        yield made
    finally:
        made.close()


def train_without_the_leader(
    cluster: KafkaCluster,
    folder: Path,
    links: Sequence[tuple[str, str]],
    disabled: Fault | None = None,
) -> Learned:
    """Kill the leaders of links in mid-training, one after another."""
    users = Users(cluster.address)
    users.passwords[ADMIN] = cluster.passwords[ADMIN]
    query = "?replication_factor=3&min_insync_replicas=2"
    with users.training(folder, query=query, disabled=disabled) as made:
        users.apply(made.topology)
        made.start()
        for number, link in enumerate(links):
            made.reach(60 * number + 35)
            lost, killed_at = cluster.kill_leader(made.watcher.topic(*link)), monotonic()
            made.party("alice").wait_for(f"epoch done epoch={6 * number + 6} ")
            measured(f"two epochs {monotonic() - killed_at:.1f} s after the leader was killed")
            # Nobody learns without bob.
            made.party("bob").send(signal.SIGSTOP)
            assert made.is_training, made.said()
            lost.start()
            made.party("bob").send(signal.SIGCONT)
        return made.finish()


@pytest.mark.long
def test_leaders_that_are_killed(cluster: KafkaCluster, tmp_path: Path, expected: Learned) -> None:
    assert train_without_the_leader(cluster, tmp_path, [PARTIES, PARTIES[::-1]]) == expected


@pytest.mark.long
def test_without_patience_a_killed_leader_ends_the_training(
    cluster: KafkaCluster, tmp_path: Path
) -> None:
    with pytest.raises(AssertionError, match=r"within 0\.5 s at "):
        train_without_the_leader(cluster, tmp_path, [PARTIES], without("patience"))


def train_with_kills_and_logins(
    broker: ProcessBroker, folder: Path, kills: int, disabled: Fault | None = None
) -> Learned:
    """Kill the broker in mid-training and start it again; all log in anew."""
    users = Users(broker.address)
    with users.training(folder, disabled=disabled) as made:
        users.apply(made.topology)
        made.start()
        for number in range(kills):
            made.reach(20 * number + 11)
            broker.restart()
        return made.finish()


@pytest.mark.long
def test_users_of_a_broker_that_is_killed(
    broker: ProcessBroker, tmp_path: Path, expected: Learned
) -> None:
    assert train_with_kills_and_logins(broker, tmp_path, 8) == expected
