"""On a real broker with an authorizer: who can do what, once the rights are applied."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient

from slstream.provisioning.acls import Acl, Pattern, Resource
from slstream.provisioning.changes import delete_topics, perform
from slstream.provisioning.connection import connect
from slstream.provisioning.plan import AddAcl, ChangeSetting, CreateTopic, Topic
from slstream.provisioning.provisioner import apply, destroy, difference, remains
from slstream.provisioning.target import Needs, desired
from slstream.topology import Topology
from tests.kafka.shared import SecuredKafka
from tests.provisioning.federation import (
    MAY_CREATE,
    MAY_READ,
    MAY_WRITE,
    PARTIES,
    SESSION,
    TOPICS,
    load_topology,
    new_name,
)
from tests.provisioning.user import User

pytest_plugins = ["tests.kafka.fixtures"]

USERS = (*PARTIES, "mallory", "admin")


def operator_of(kafka: SecuredKafka, user: str = "admin") -> AdminClient:
    return connect(kafka.login(user).settings(), wait_s=20, on_wait=print)


def user_of(kafka: SecuredKafka, name: str) -> User:
    return User(kafka.login(name, "SASL_PLAINTEXT"))


def provide(kafka: SecuredKafka, topology: Topology, needs: Needs) -> None:
    operator = operator_of(kafka)
    wanted = desired(topology, kafka.login("admin").settings(), needs)
    assert apply(operator, wanted, difference(operator, wanted), prune=False) == ()


@pytest.fixture(scope="module")
def federation(
    secured_kafka: SecuredKafka, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """Its topics and rights are applied, and each topic holds a record."""
    name = new_name()
    topology = load_topology(tmp_path_factory.mktemp("topology"), federation=name)
    provide(secured_kafka, topology, Needs(sessions=(SESSION,), principals={}))
    topics = [f"{name}.{topic}" for topic in TOPICS]
    assert user_of(secured_kafka, "admin").writable(topics) == set(topics)
    yield name
    operator = operator_of(secured_kafka)
    assert destroy(operator, remains(operator, name, (), operator=None)) == ()


@pytest.mark.parametrize("name", USERS)
def test_who_can_write_where(name: str, federation: str, secured_kafka: SecuredKafka) -> None:
    user = user_of(secured_kafka, name)
    found = user.writable(f"{federation}.{topic}" for topic in TOPICS)
    assert found == {f"{federation}.{topic}" for topic in MAY_WRITE[name]}


@pytest.mark.parametrize("name", USERS)
def test_who_can_read_what(name: str, federation: str, secured_kafka: SecuredKafka) -> None:
    user = user_of(secured_kafka, name)
    found = user.readable(f"{federation}.{topic}" for topic in TOPICS)
    assert found == {f"{federation}.{topic}" for topic in MAY_READ[name]}


@pytest.mark.parametrize("name", USERS)
def test_who_can_create_links(name: str, federation: str, secured_kafka: SecuredKafka) -> None:
    """Of another session; what is refused is refused also to those who do not ask slstream."""
    operator = operator_of(secured_kafka, name)
    links = [topic for topic in TOPICS if "-to-" in topic]
    topics = {f"{federation}.{topic.replace(SESSION, f'by-{name}')}": topic for topic in links}
    failures = perform(operator, [CreateTopic(topic=Topic(name=topic)) for topic in topics])
    refused = {failure.what.rpartition(" ")[2] for failure in failures}
    assert {topics[topic] for topic in set(topics) - refused} == MAY_CREATE[name] & set(links)
    assert {failure.cause for failure in failures} <= {"the broker does not allow it"}


@pytest.mark.parametrize("name", [*PARTIES, "mallory"])
def test_none_but_an_operator_deletes_changes_or_grants(
    name: str, federation: str, secured_kafka: SecuredKafka
) -> None:
    user = operator_of(secured_kafka, name)
    topics = [f"{federation}.{topic}" for topic in TOPICS]
    assert len(delete_topics(user, topics)) == len(topics)
    changes = [
        ChangeSetting(topic=topic, setting="retention.ms", found="-1", wanted="1")
        for topic in topics
    ]
    right = Acl(
        principal=f"User:{name}",
        resource=Resource.TOPIC,
        pattern=Pattern.PREFIXED,
        name=f"{federation}.",
        operation="ALL",
    )
    failures = perform(user, [*changes, AddAcl(acl=right)])
    assert len(failures) == len(topics) + 1
    operator = operator_of(secured_kafka)
    assert {each.name for each in remains(operator, federation, (), operator=None).topics} >= set(
        topics
    )


def test_the_operator_can_delete_and_change(secured_kafka: SecuredKafka, tmp_path: Path) -> None:
    """The control: what is refused to others above is no fault of the attempts."""
    name = new_name()
    provide(secured_kafka, load_topology(tmp_path, federation=name), Needs(principals={}))
    operator, topic = operator_of(secured_kafka), f"{name}.incarnations.bob"
    change = ChangeSetting(topic=topic, setting="retention.ms", found="-1", wanted="1")
    assert perform(operator, [change]) == ()
    assert delete_topics(operator, [topic]) == ()
    assert destroy(operator, remains(operator, name, (), operator=None)) == ()


@pytest.mark.parametrize("name", USERS)
def test_whose_progress_is_whose(name: str, federation: str, secured_kafka: SecuredKafka) -> None:
    user = user_of(secured_kafka, name)
    topic = f"{federation}.alice-to-bob.{SESSION}"
    groups = [f"{federation}.bob", f"{federation}.carol", f"{federation}.bobby", "other"]
    expected = {"bob": {f"{federation}.bob"}, "admin": set(groups)}.get(name, set())
    assert {group for group in groups if user.may_commit(topic, group)} == expected


def test_a_party_by_another_name(secured_kafka: SecuredKafka, tmp_path: Path) -> None:
    """Whom the broker knows by another name than the topology's, however that was shown."""
    name = new_name()
    topology = load_topology(tmp_path, federation=name)
    provide(secured_kafka, topology, Needs(principals={"bob": "User:mallory"}))
    topic = f"{name}.telemetry.bob"
    for listener in ("SSL", "SASL_SSL", "SASL_PLAINTEXT"):
        assert User(secured_kafka.login("mallory", listener)).writable([topic]) == {topic}
        assert User(secured_kafka.login("bob", listener)).writable([topic]) == set()
    operator = operator_of(secured_kafka)
    assert destroy(operator, remains(operator, name, (), operator=None)) == ()


def test_links_that_only_an_operator_creates(secured_kafka: SecuredKafka, tmp_path: Path) -> None:
    name = new_name()
    topology = load_topology(tmp_path, federation=name)
    needs = Needs(sessions=(SESSION,), principals={}, may_create=False)
    provide(secured_kafka, topology, needs)
    bob = operator_of(secured_kafka, "bob")
    (failure,) = perform(bob, [CreateTopic(topic=Topic(name=f"{name}.bob-to-alice.s2"))])
    assert failure.cause == "the broker does not allow it"
    topics = [f"{name}.{topic}" for topic in TOPICS]
    assert user_of(secured_kafka, "bob").writable(topics) == {
        f"{name}.{topic}" for topic in MAY_WRITE["bob"]
    }
    operator = operator_of(secured_kafka)
    assert destroy(operator, remains(operator, name, (), operator=None)) == ()
