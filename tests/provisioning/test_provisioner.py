"""On real brokers: what is missing is made, what drifted is seen and put right."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic, sleep

import pytest
from confluent_kafka.admin import AdminClient

from slstream.errors import TransportBroken, TransportDenied
from slstream.provisioning.acls import Acl, Pattern, Resource
from slstream.provisioning.changes import delete_topics, perform, remove_acls
from slstream.provisioning.cluster import topic_names
from slstream.provisioning.connection import connect
from slstream.provisioning.plan import (
    AddAcl,
    ChangeSetting,
    CreateTopic,
    Desired,
    Misfit,
    RemoveAcl,
    Topic,
)
from slstream.provisioning.provisioner import apply, destroy, difference, remains
from slstream.provisioning.target import Needs, desired
from tests.kafka.clients import produce
from tests.kafka.login import Login
from tests.kafka.shared import SecuredKafka
from tests.provisioning.federation import LASTING, LINKS, load_topology, new_name

pytest_plugins = ["tests.kafka.fixtures"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Provided:
    """A federation that is as it should be."""

    admin: AdminClient
    login: Login
    wanted: Desired

    @property
    def name(self) -> str:
        return self.wanted.federation

    def right(self, name: str, *, principal: str = "User:mallory") -> Acl:
        return Acl(
            principal=principal,
            resource=Resource.TOPIC,
            pattern=Pattern.LITERAL,
            name=name,
            operation="READ",
        )


@pytest.fixture
def provided(secured_kafka: SecuredKafka, tmp_path: Path) -> Iterator[Provided]:
    login = secured_kafka.login("admin", "SASL_PLAINTEXT")
    admin = connect(login.settings(), wait_s=20, on_wait=print)
    topology = load_topology(tmp_path, federation=new_name())
    needs = Needs(sessions=("s1",), principals={})
    wanted = desired(topology, login.settings(), needs)
    plan = difference(admin, wanted)
    assert {type(change) for change in plan.changes} == {CreateTopic, AddAcl}
    assert apply(admin, wanted, plan, prune=False) == ()
    yield Provided(admin=admin, login=login, wanted=wanted)
    assert destroy(admin, remains(admin, topology.federation, (), operator=None)) == ()


def until(holds: Callable[[], bool]) -> None:
    """What a broker has accepted shows a moment later."""
    deadline = monotonic() + 10
    while True:
        with suppress(TransportBroken):  # a topic that is being deleted is listed, and unknown
            if holds():
                return
        assert monotonic() < deadline
        sleep(0.05)


def test_what_was_applied_needs_nothing_more(provided: Provided) -> None:
    plan = difference(provided.admin, provided.wanted)
    assert plan.changes == ()
    assert plan.has_authorizer
    assert apply(provided.admin, provided.wanted, plan, prune=True) == ()


def test_drift_is_seen_and_put_right(provided: Provided) -> None:
    admin, wanted, name = provided.admin, provided.wanted, provided.name
    lost = next(iter(sorted(wanted.acls)))
    alien, other = provided.right(f"{name}.alice-to-bob.s1"), provided.right(f"{name}x.lobby")
    retention = ChangeSetting(
        topic=f"{name}.lobby", setting="retention.ms", found="-1", wanted="3600000"
    )
    policy = ChangeSetting(
        topic=f"{name}.lobby", setting="cleanup.policy", found="delete", wanted="compact"
    )
    assert perform(admin, [retention, policy, AddAcl(acl=alien), AddAcl(acl=other)]) == ()
    assert remove_acls(admin, [lost]) == ()
    assert delete_topics(admin, [f"{name}.telemetry.bob"]) == ()

    (missing,) = [topic for topic in wanted.topics if topic.name == f"{name}.telemetry.bob"]
    expected = (
        replace(policy, found="compact", wanted="delete"),
        replace(retention, found="3600000", wanted="-1"),
        CreateTopic(topic=missing),
        AddAcl(acl=lost),
        RemoveAcl(acl=alien),
    )
    until(lambda: difference(admin, wanted).changes == expected)

    plan = difference(admin, wanted)
    assert apply(admin, wanted, plan, prune=False) == ()
    # A broker answers by its metadata of a moment ago.
    until(lambda: difference(admin, wanted).changes == (RemoveAcl(acl=alien),))
    assert apply(admin, wanted, difference(admin, wanted), prune=True) == ()
    until(lambda: difference(admin, wanted).changes == ())
    assert remains(admin, f"{name}x", (), operator=None).acls == (other,), "another federation's"
    assert remove_acls(admin, [other]) == ()


def test_what_cannot_be_put_right_is_a_failure_and_keeps_nothing_else_back(
    provided: Provided,
) -> None:
    admin, name = provided.admin, provided.name
    topics = [f"{name}.lobby", f"{name}.schemas"]
    assert delete_topics(admin, topics) == ()
    until(lambda: not set(topics) & set(topic_names(admin, name)))
    assert perform(admin, [CreateTopic(topic=Topic(name=topics[0], partitions=2))]) == ()
    until(lambda: topics[0] in topic_names(admin, name))
    plan = difference(admin, provided.wanted)
    assert plan.misfits == (Misfit(topic=topics[0], what="partitions", found=2, wanted=1),)
    assert len(plan.changes) > 1
    (failure,) = apply(admin, provided.wanted, plan, prune=False)
    assert str(failure) == (
        f"repair topic {topics[0]}: it has partitions 2, expected 1; delete the topic, with all "
        "that is in it, and apply again"
    )
    until(lambda: difference(admin, provided.wanted).changes == plan.misfits)


def test_what_somebody_else_has_made_meanwhile_is_put_right_too(provided: Provided) -> None:
    admin, topic = provided.admin, f"{provided.name}.lobby"
    until(lambda: difference(admin, provided.wanted).changes == ())
    assert delete_topics(admin, [topic]) == ()
    until(lambda: topic not in topic_names(admin, topic))
    plan = difference(admin, provided.wanted)
    assert {type(change) for change in plan.changes} == {CreateTopic}
    theirs = Topic(name=topic, settings={"retention.ms": "60000"})
    assert perform(admin, [CreateTopic(topic=theirs)]) == ()
    assert apply(admin, provided.wanted, plan, prune=False) == ()
    assert difference(admin, provided.wanted).changes == ()


def test_each_change_fails_for_itself(provided: Provided) -> None:
    name = provided.name
    bad = Topic(name=f"{name}.divergences.x", settings={"retention.ms": "soon"})
    many = Topic(name=f"{name}.divergences.y", replication_factor=3)
    good = Topic(name=f"{name}.divergences.z")
    failures = perform(provided.admin, [CreateTopic(topic=topic) for topic in (bad, many, good)])
    found = {failure.what: failure for failure in failures}
    assert set(found) == {f"create topic {topic.name}" for topic in (bad, many)}
    assert "INVALID_CONFIG" in found[f"create topic {bad.name}"].cause
    assert "start the brokers" in found[f"create topic {many.name}"].remedy
    until(lambda: good.name in topic_names(provided.admin, name))


def test_who_may_not_see_the_rights_is_told_so(
    provided: Provided, secured_kafka: SecuredKafka
) -> None:
    """The client library itself would say that there are none."""
    bob = connect(secured_kafka.login("bob").settings(), wait_s=20, on_wait=print)
    with pytest.raises(TransportDenied, match="run it as an operator"):
        difference(bob, provided.wanted)


def test_what_is_lost_with_a_federation(provided: Provided) -> None:
    admin, name = provided.admin, provided.name
    topic = f"{name}.bob-to-alice.s1"
    asyncio.run(produce(provided.login, topic, [b"one", b"two"]))
    assert perform(admin, [CreateTopic(topic=Topic(name=f"{name}.events"))]) == ()
    until(lambda: f"{name}.events" in topic_names(admin, name))

    gone = remains(admin, name, (), operator=None)
    assert {each.name for each in gone.topics} == {f"{name}.{t}" for t in (*LASTING, *LINKS)}
    assert {each.name: each.records for each in gone.topics if each.records} == {topic: 2}
    assert set(gone.acls) == provided.wanted.acls
    assert gone.foreign == (f"{name}.events",)

    links = remains(admin, name, ["s1"], operator=None)
    assert {each.name for each in links.topics} == {f"{name}.{link}" for link in LINKS}
    assert links.acls == ()
    assert links.foreign == ()
    assert destroy(admin, links) == ()
    assert set(topic_names(admin, name)) == {f"{name}.{t}" for t in (*LASTING, "events")}

    assert destroy(admin, gone) == (), "what is gone already is no failure"
    assert topic_names(admin, name) == (f"{name}.events",)
    assert remains(admin, name, (), operator=None).acls == ()
    assert delete_topics(admin, [f"{name}.events"]) == ()


def test_a_broker_that_keeps_no_rights(kafka: str, tmp_path: Path) -> None:
    login = Login.to(kafka)
    admin = connect(login.settings(), wait_s=20, on_wait=print)
    topology = load_topology(tmp_path, federation=new_name())
    wanted = desired(topology, login.settings(), Needs(principals={}))
    plan = difference(admin, wanted)
    assert not plan.has_authorizer
    assert {type(change) for change in plan.changes} == {CreateTopic}
    assert apply(admin, wanted, plan, prune=True) == ()
    assert difference(admin, wanted).changes == ()
    assert destroy(admin, remains(admin, topology.federation, (), operator=None)) == ()
    assert topic_names(admin, topology.federation) == ()
