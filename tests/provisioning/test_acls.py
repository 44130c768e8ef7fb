from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slstream.errors import ConfigError, TopologyError
from slstream.frames.topics import link_topic
from slstream.provisioning.acls import (
    Acl,
    Pattern,
    Resource,
    concerns_federation,
    federation_acls,
    is_removable,
)
from slstream.topology import Topology
from tests.provisioning.authorizer import allows
from tests.provisioning.federation import (
    MAY_CREATE,
    MAY_READ,
    MAY_WRITE,
    PARTIES,
    TOPICS,
    load_topology,
)

USERS = (*PARTIES, "mallory")


def acls_of(topology: Topology, *, may_create: bool = True) -> frozenset[Acl]:
    return federation_acls(topology, principals={}, may_create=may_create)


@pytest.mark.parametrize(
    ("operation", "expected"), [("WRITE", MAY_WRITE), ("READ", MAY_READ), ("CREATE", MAY_CREATE)]
)
def test_each_may_do_what_the_protocol_needs_and_no_more(
    operation: str, expected: dict[str, set[str]], tmp_path: Path
) -> None:
    acls = acls_of(load_topology(tmp_path))
    for user in USERS:
        found = {t for t in TOPICS if allows(acls, f"User:{user}", operation, f"credit.{t}")}
        assert found == expected[user], user


def test_settings_may_be_read_of_every_topic_that_is_used(tmp_path: Path) -> None:
    acls = acls_of(load_topology(tmp_path))
    for user in USERS:
        for operation in ("DESCRIBE", "DESCRIBE_CONFIGS"):
            found = {t for t in TOPICS if allows(acls, f"User:{user}", operation, f"credit.{t}")}
            assert found == MAY_READ[user], (user, operation)


def test_nobody_may_delete_change_or_do_everything(tmp_path: Path) -> None:
    operations = {acl.operation for acl in acls_of(load_topology(tmp_path))}
    assert operations == {"READ", "WRITE", "CREATE", "DESCRIBE_CONFIGS"}


def test_without_the_right_to_create(tmp_path: Path) -> None:
    topology = load_topology(tmp_path)
    removed = acls_of(topology) - acls_of(topology, may_create=False)
    assert {acl.operation for acl in removed} == {"CREATE"}
    assert not {a for a in acls_of(topology, may_create=False) if a.operation == "CREATE"}


def test_each_has_a_consumer_group_of_its_own(tmp_path: Path) -> None:
    acls = acls_of(load_topology(tmp_path))
    for user in USERS:
        groups = [f"credit.{party}" for party in (*PARTIES, "bobby", "mallory")]
        found = {g for g in groups if allows(acls, f"User:{user}", "READ", g, Resource.GROUP)}
        assert found == ({f"credit.{user}"} if user in PARTIES else set())


_NAME = st.sampled_from(["a", "b", "ab", "a-b", "b-a", "ab-a", "a-b-a", "a1", "1", "lobby"])


@given(label=_NAME, features=st.sets(_NAME, min_size=1, max_size=4), other=_NAME, session=_NAME)
def test_names_that_begin_alike_share_no_rights(
    label: str, features: set[str], other: str, session: str
) -> None:
    """Prefixes are where such rights go wrong: all links between all names are tried."""
    features -= {label}
    if not features:
        return
    parties = {
        name: {"role": "feature", "data": {"path": "x.csv"}, "base": {"model": "mlp"}}
        for name in features
    }
    topology = Topology.from_dict(
        {
            "federation": "f",
            "seed": 1,
            "parties": parties
            | {label: {"role": "label", "data": {"path": "x.csv", "label": "y"}}},
            "fuse": {"model": "linear"},
            "loss": "bce",
        }
    )
    acls = acls_of(topology)
    ends = sorted({label, other, *features})
    for user in ends:
        principal = f"User:{user}"
        for federation in ("f", f"f-{other}", f"{other}-f"):
            for sender in ends:
                for receiver in ends:
                    if sender == receiver:
                        continue
                    topic = link_topic(federation, sender, receiver, session)
                    ours = federation == "f" and user in {label, *features}
                    between = label in (sender, receiver) and {sender, receiver} <= {
                        label,
                        *features,
                    }
                    assert allows(acls, principal, "WRITE", topic) == (ours and user == sender)
                    reads = ours and (user == sender or (user == receiver and between))
                    assert allows(acls, principal, "READ", topic) == reads
            for kind in ("incarnations", "divergences", "telemetry"):
                for party in ends:
                    own = federation == "f" and user == party and user in {label, *features}
                    topic = f"{federation}.{kind}.{party}"
                    assert allows(acls, principal, "WRITE", topic) == own
                    assert allows(acls, principal, "READ", topic) == own


def test_principals_of_certificates(tmp_path: Path) -> None:
    topology = load_topology(tmp_path)
    acls = federation_acls(topology, principals={"bob": "User:CN=bob,O=Bank"}, may_create=True)
    assert {acl.principal for acl in acls} == {"User:alice", "User:CN=bob,O=Bank", "User:carol"}
    assert {acl.host for acl in acls} == {"*"}


@pytest.mark.parametrize("principal", ["bob", "User:", ":bob", "User:*", "", "Us er:bob"])
def test_what_is_no_principal_of_one_user(principal: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="principal of bob: expected Kafka's name of one user"):
        federation_acls(load_topology(tmp_path), principals={"bob": principal}, may_create=True)


def test_two_parties_are_never_one_user(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="principal of bob: expected one of its own"):
        federation_acls(load_topology(tmp_path), principals={"bob": "User:alice"}, may_create=True)


def test_a_principal_of_nobody(tmp_path: Path) -> None:
    with pytest.raises(TopologyError, match='unknown party "bop"'):
        federation_acls(load_topology(tmp_path), principals={"bop": "User:x"}, may_create=True)


def entry(name: str, pattern: Pattern = Pattern.LITERAL) -> Acl:
    return Acl(
        principal="User:x", resource=Resource.TOPIC, pattern=pattern, name=name, operation="READ"
    )


@pytest.mark.parametrize(
    ("acl", "removable", "concerned"),
    [
        (entry("credit.lobby"), True, True),
        (entry("credit.", Pattern.PREFIXED), True, True),
        (entry("credit.x-to-", Pattern.PREFIXED), True, True),
        (entry("credit", Pattern.PREFIXED), False, True),
        (entry("c", Pattern.PREFIXED), False, True),
        (entry("*"), False, True),
        (entry("credit"), False, False),
        (entry("credit-b.", Pattern.PREFIXED), False, False),
        (entry("other.lobby"), False, False),
        (entry("d", Pattern.PREFIXED), False, False),
    ],
)
def test_whose_topics_an_entry_is_about(acl: Acl, removable: bool, concerned: bool) -> None:
    assert is_removable(acl, "credit", None) == removable
    assert is_removable(acl, "credit", "User:ops") == removable
    assert not is_removable(acl, "credit", "User:x"), "that is who would remove it"
    assert concerns_federation(acl, "credit") == concerned


def test_what_may_be_the_operators_own_is_left_alone() -> None:
    """With a client certificate the operator's name is not known."""
    own = replace(entry("credit.", Pattern.PREFIXED), operation="ALL")
    assert not is_removable(own, "credit", None)
    assert is_removable(own, "credit", "User:ops"), "this is somebody else's"
    for other in (replace(own, name="credit.x-to-"), replace(own, pattern=Pattern.LITERAL)):
        assert is_removable(other, "credit", None)


def test_a_denial_is_left_alone() -> None:
    assert not is_removable(replace(entry("credit.lobby"), permission="DENY"), "credit", None)


def test_an_entry_in_words() -> None:
    assert str(entry("credit.a-to-", Pattern.PREFIXED)) == (
        "right of User:x to READ topics credit.a-to-*"
    )
    denial = Acl(
        principal="User:x",
        resource=Resource.GROUP,
        pattern=Pattern.LITERAL,
        name="credit.x",
        operation="ALL",
        permission="DENY",
        host="10.0.0.1",
    )
    assert str(denial) == "denial of User:x from 10.0.0.1 to ALL group credit.x"
