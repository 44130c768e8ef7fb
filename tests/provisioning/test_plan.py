from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slstream.provisioning.acls import Acl, Pattern, Resource
from slstream.provisioning.plan import (
    AddAcl,
    Change,
    ChangeSetting,
    CreateTopic,
    Desired,
    Found,
    Misfit,
    RemoveAcl,
    Topic,
    compare,
    desired_topics,
    is_ours,
    link_topics,
)
from tests.provisioning.federation import LASTING, LINKS, load_topology

SETTINGS = {"retention.ms": "-1", "cleanup.policy": "delete"}
BROKERS_OWN = {"segment.bytes": "1073741824"}


def carried_out(found: Found, changes: tuple[Change, ...]) -> Found:
    """What a broker has after it has made changes: a model."""
    topics, acls = dict(found.topics), found.acls
    for change in changes:
        match change:
            case CreateTopic(topic=new):
                assert new.name not in topics
                factor = new.replication_factor or 1
                settings = BROKERS_OWN | dict(new.settings)
                topics[new.name] = replace(new, settings=settings, replication_factor=factor)
            case ChangeSetting():
                there = topics[change.topic]
                assert there.settings.get(change.setting) == change.found
                settings = dict(there.settings) | {change.setting: change.wanted}
                topics[change.topic] = replace(there, settings=settings)
            case AddAcl(acl=acl):
                assert acls is not None
                assert acl not in acls
                acls |= {acl}
            case RemoveAcl(acl=acl):
                assert acls is not None
                assert acl in acls
                acls -= {acl}
            case Misfit():
                raise AssertionError("nobody can make this change")
    return Found(topics=topics, acls=acls)


_NAMES = st.sampled_from(
    ["credit.lobby", "credit.schemas", "credit.a-to-b.s", "credit.telemetry.a"]
)
_VALUES = st.fixed_dictionaries(
    {}, optional={name: st.sampled_from(["-1", "delete", "7"]) for name in SETTINGS}
)
_ACLS = st.frozensets(
    st.builds(
        Acl,
        principal=st.sampled_from(["User:a", "User:b"]),
        resource=st.sampled_from(Resource),
        pattern=st.sampled_from(Pattern),
        name=st.sampled_from(["credit.lobby", "credit.a-to-", "credit.a", "cre", "*", "other.x"]),
        operation=st.sampled_from(["READ", "WRITE"]),
        permission=st.sampled_from(["ALLOW", "DENY"]),
    ),
    max_size=6,
)


def _may_be_ours(acl: Acl) -> bool:
    return acl.name.startswith("credit.") and acl.permission == "ALLOW"


@st.composite
def _desired(draw: st.DrawFn) -> Desired:
    names = draw(st.sets(_NAMES))
    factor = draw(st.sampled_from([None, 3]))
    topics = [Topic(name=n, replication_factor=factor, settings=SETTINGS) for n in sorted(names)]
    acls = frozenset(filter(_may_be_ours, draw(_ACLS)))
    return Desired(federation="credit", topics=tuple(topics), acls=acls)


@st.composite
def _found(draw: st.DrawFn) -> Found:
    topics = {
        name: Topic(
            name=name,
            partitions=draw(st.sampled_from([1, 1, 2])),
            replication_factor=draw(st.sampled_from([1, 3])),
            settings=BROKERS_OWN | draw(_VALUES),
        )
        for name in draw(st.sets(_NAMES))
    }
    return Found(topics=topics, acls=draw(st.none() | _ACLS))


@given(desired=_desired(), found=_found())
def test_what_is_carried_out_is_no_difference_any_more(desired: Desired, found: Found) -> None:
    plan = compare(desired, found)
    after = carried_out(found, plan.to_do(prune=True))
    assert compare(desired, after).changes == plan.misfits
    for topic in desired.topics:
        assert dict(topic.settings).items() <= after.topics[topic.name].settings.items()
    if after.acls is not None:
        assert set(filter(_may_be_ours, after.acls)) == desired.acls
        assert found.acls is not None
        others = {a for a in found.acls if not _may_be_ours(a)}
        assert others <= after.acls, "rights of others are not ours to remove"


@given(desired=_desired(), found=_found())
def test_unless_told_so_nothing_is_taken_away(desired: Desired, found: Found) -> None:
    plan = compare(desired, found)
    after = carried_out(found, plan.to_do(prune=False))
    left = compare(desired, after).changes
    assert all(isinstance(change, Misfit | RemoveAcl) for change in left)
    assert (found.acls or frozenset()) <= (after.acls or frozenset())


@given(desired=_desired())
def test_what_is_as_it_should_be_differs_in_nothing(desired: Desired) -> None:
    found = carried_out(
        Found(topics={}, acls=frozenset()),
        tuple(
            [CreateTopic(topic=topic) for topic in desired.topics]
            + [AddAcl(acl=acl) for acl in desired.acls]
        ),
    )
    plan = compare(desired, found)
    assert plan.changes == ()
    assert plan.others == ()
    assert plan.has_authorizer


def wanted(*topics: Topic) -> Desired:
    return Desired(federation="credit", topics=topics, acls=frozenset())


def test_a_setting_that_drifted() -> None:
    lobby = Topic(name="credit.lobby", settings=SETTINGS)
    there = replace(lobby, replication_factor=1, settings=SETTINGS | {"retention.ms": "604800000"})
    plan = compare(wanted(lobby), Found(topics={lobby.name: there}, acls=frozenset()))
    assert plan.changes == (
        ChangeSetting(topic="credit.lobby", setting="retention.ms", found="604800000", wanted="-1"),
    )


def test_what_nobody_can_repair_in_place() -> None:
    lobby = Topic(name="credit.lobby", replication_factor=3)
    there = replace(lobby, partitions=4, replication_factor=1)
    plan = compare(wanted(lobby), Found(topics={lobby.name: there}, acls=frozenset()))
    assert [(m.what, m.found, m.wanted) for m in plan.misfits] == [
        ("partitions", 4, 1),
        ("replication factor", 1, 3),
    ]
    assert "delete the topic" in plan.misfits[0].remedy
    assert "kafka-reassign-partitions.sh" in plan.misfits[1].remedy
    assert plan.to_do(prune=True) == ()


def test_copies_are_the_brokers_business_unless_the_url_says_how_many() -> None:
    lobby = Topic(name="credit.lobby")
    there = replace(lobby, replication_factor=2)
    assert compare(wanted(lobby), Found(topics={lobby.name: there}, acls=frozenset())).changes == ()


def test_rights_to_more_than_the_federation_are_told_and_left() -> None:
    everything = Acl(
        principal="User:ops",
        resource=Resource.TOPIC,
        pattern=Pattern.LITERAL,
        name="*",
        operation="ALL",
    )
    plan = compare(wanted(), Found(topics={}, acls=frozenset({everything})))
    assert plan.others == (everything,)
    assert plan.changes == ()


def test_operators_keep_the_rights_with_which_they_work() -> None:
    own = Acl(
        principal="User:ops",
        resource=Resource.TOPIC,
        pattern=Pattern.PREFIXED,
        name="credit.",
        operation="ALL",
    )
    found = Found(topics={}, acls=frozenset({own}))
    plan = compare(replace(wanted(), operator="User:ops"), found)
    assert plan.changes == ()
    assert plan.others == (own,)
    # With a client certificate it is not known who they are.
    assert compare(wanted(), found).others == (own,)
    other = replace(wanted(), operator="User:other")
    assert compare(other, found).changes == (RemoveAcl(acl=own),)


def test_without_an_authorizer_no_right_is_missing() -> None:
    acl = Acl(
        principal="User:a",
        resource=Resource.GROUP,
        pattern=Pattern.LITERAL,
        name="credit.a",
        operation="READ",
    )
    desired = replace(wanted(), acls=frozenset({acl}))
    plan = compare(desired, Found(topics={}, acls=None))
    assert plan.changes == ()
    assert not plan.has_authorizer


def test_the_topics_of_a_federation_and_of_its_sessions(tmp_path: Path) -> None:
    topology = load_topology(tmp_path)
    lasting = desired_topics(topology, (), settings=SETTINGS, replication_factor=2)
    assert {topic.name for topic in lasting} == {f"credit.{name}" for name in LASTING}
    assert {(t.partitions, t.replication_factor) for t in lasting} == {(1, 2)}
    assert all(topic.settings == SETTINGS for topic in lasting)
    more = desired_topics(topology, ("s1", "s1"), settings={}, replication_factor=None)
    assert {t.name for t in more} - {t.name for t in lasting} == {f"credit.{n}" for n in LINKS}
    assert len(more) == len(LASTING) + len(LINKS)


def test_the_name_of_a_session_is_checked(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="session name"):
        link_topics(load_topology(tmp_path), ["a.b"])


@pytest.mark.parametrize(
    ("topic", "ours"),
    [
        *((f"credit.{name}", True) for name in (*LASTING, *LINKS)),
        ("credit.telemetry.dave", True),
        ("credit.dave-to-erin.x", True),
        ("credit.events", False),
        ("credit.lobby.x", False),
        ("credit.telemetry", False),
        ("credit.telemetry.x.y", False),
        ("credit.a-to-a.x", False),
        ("other.lobby", False),
        ("other.a-to-b.x", False),
        ("credit", False),
    ],
)
def test_whose_topics_are_deleted(topic: str, ours: bool) -> None:
    assert is_ours(topic, "credit") == ours
