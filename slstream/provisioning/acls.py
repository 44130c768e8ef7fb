"""Which party may do what with which topic: Kafka's access control entries of a federation.

======================================  ==========================================  ============
resource                                operations                                  who
======================================  ==========================================  ============
topics ``<f>.<party>-to-*``             READ WRITE DESCRIBE_CONFIGS CREATE          the party
topics ``<f>.<peer>-to-<party>.*``      READ DESCRIBE_CONFIGS CREATE                the party
topic ``<f>.incarnations.<party>``      READ WRITE DESCRIBE_CONFIGS                 the party
topic ``<f>.divergences.<party>``       READ WRITE DESCRIBE_CONFIGS                 the party
topic ``<f>.telemetry.<party>``         READ WRITE DESCRIBE_CONFIGS                 the party
topic ``<f>.lobby``                     READ DESCRIBE_CONFIGS                       all
topic ``<f>.lobby``                     WRITE                                       label party
topic ``<f>.schemas``                   READ WRITE DESCRIBE_CONFIGS                 all
group ``<f>.<party>``                   READ                                        the party
======================================  ==========================================  ============

A party reads its own links back when it recovers, and compares a topic's settings with those that
it needs before it uses it (DESCRIBE_CONFIGS). Either end of a link creates its topics, whoever
comes first. Nobody but an operator may delete a topic or change its settings. DESCRIBE is implied
by READ and WRITE; IDEMPOTENT_WRITE is not needed from Kafka 2.8 on.

Kafka matches whole names or prefixes of names, never what they end with: so the links addressed to
a party are listed, one prefix per peer. Each prefix ends where the next name cannot go on, so that
"bob" is never given what is "bobby"'s.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from slstream.errors import ConfigError
from slstream.frames.topics import (
    consumer_group,
    divergences_topic,
    incarnations_topic,
    link_prefix,
    links_prefix,
    lobby_topic,
    schemas_topic,
    telemetry_topic,
)
from slstream.topology import Role, Topology


class Resource(StrEnum):
    """What an entry is about; Kafka's names."""

    TOPIC = "TOPIC"
    GROUP = "GROUP"


class Pattern(StrEnum):
    """How an entry names its resources; Kafka's names."""

    LITERAL = "LITERAL"
    PREFIXED = "PREFIXED"


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Acl:
    """One access control entry, with the words that Kafka uses."""

    principal: str
    """``User:bob``."""
    resource: Resource
    pattern: Pattern
    name: str
    """Of the topic or group, or the beginning of their names."""
    operation: str
    """``READ``, ``WRITE``, ``CREATE``, ..."""
    permission: str = "ALLOW"
    """Or ``DENY``."""
    host: str = "*"
    """From which address."""

    @property
    def place(self) -> str:
        """``topic credit.lobby``, ``topics credit.bob-to-*``."""
        what = self.resource.value.lower()
        return (
            f"{what}s {self.name}*" if self.pattern is Pattern.PREFIXED else f"{what} {self.name}"
        )

    def __str__(self) -> str:
        verb = "right" if self.permission == "ALLOW" else "denial"
        host = "" if self.host == "*" else f" from {self.host}"
        return f"{verb} of {self.principal}{host} to {self.operation} {self.place}"


def federation_acls(
    topology: Topology, *, principals: Mapping[str, str], may_create: bool
) -> frozenset[Acl]:
    """All entries that the parties of a federation need.

    Args:
        topology: the federation.
        principals: Kafka's name of a party, where that is not ``User:<party>``.
        may_create: whether parties may create the topics of their links.

    Raises:
        TopologyError: a principal is given for a party that there is not.
        ConfigError: two parties would be one principal, or a principal is not ``Type:name``.
    """
    for party in principals:
        topology.party(party)
    named = {party.id: principals.get(party.id, f"User:{party.id}") for party in topology.parties}
    _check_principals(named)
    return frozenset(
        acl
        for party, principal in named.items()
        for acl in _party_acls(topology, party, principal, may_create=may_create)
    )


def is_removable(acl: Acl, federation: str, operator: str | None) -> bool:
    """Whether an entry that no party needs is this federation's to remove.

    It names nothing but topics or groups of the federation, and is not the operator's own: when who
    that is is not known, ALL on all of the federation's topics is what an operator has. A denial
    is not: without it somebody may do more than before.
    """
    namespace = f"{federation}."
    if operator is None:
        place = (acl.pattern, acl.name, acl.operation)
        own = place == (Pattern.PREFIXED, namespace, "ALL")
    else:
        own = acl.principal == operator
    return acl.name.startswith(namespace) and not own and acl.permission == "ALLOW"


def concerns_federation(acl: Acl, federation: str) -> bool:
    """Whether an entry is about topics or groups of a federation, and perhaps about others too."""
    namespace = f"{federation}."
    if acl.pattern is Pattern.PREFIXED:
        return acl.name.startswith(namespace) or namespace.startswith(acl.name)
    return acl.name == "*" or acl.name.startswith(namespace)


def _party_acls(
    topology: Topology, party: str, principal: str, *, may_create: bool
) -> Iterable[Acl]:
    federation = topology.federation
    leads = topology.party(party).role is Role.LABEL
    peers = topology.feature_parties if leads else (topology.label_party,)
    create = ("CREATE",) if may_create else ()
    read, write = ("READ", "DESCRIBE_CONFIGS"), ("READ", "WRITE", "DESCRIBE_CONFIGS")

    def topic(name: str, *operations: str, pattern: Pattern = Pattern.LITERAL) -> Iterable[Acl]:
        return _acls(principal, Resource.TOPIC, pattern, name, operations)

    prefixed = Pattern.PREFIXED
    yield from topic(links_prefix(federation, party), *write, *create, pattern=prefixed)
    for peer in peers:
        yield from topic(link_prefix(federation, peer.id, party), *read, *create, pattern=prefixed)
    for own in (incarnations_topic, divergences_topic, telemetry_topic):
        yield from topic(own(federation, party), *write)
    yield from topic(lobby_topic(federation), *(write if leads else read))
    yield from topic(schemas_topic(federation), *write)
    group = consumer_group(federation, party)
    yield from _acls(principal, Resource.GROUP, Pattern.LITERAL, group, ("READ",))


def _acls(
    principal: str, resource: Resource, pattern: Pattern, name: str, operations: Iterable[str]
) -> Iterable[Acl]:
    for operation in operations:
        yield Acl(
            principal=principal,
            resource=resource,
            pattern=pattern,
            name=name,
            operation=operation,
        )


def _check_principals(named: Mapping[str, str]) -> None:
    seen: dict[str, str] = {}
    for party, principal in named.items():
        kind, separator, name = principal.partition(":")
        if not (kind.isalpha() and separator and name) or name == "*":
            raise ConfigError(
                f"principal of {party}: expected Kafka's name of one user, such as User:{party} or "
                f"User:CN={party}, found {principal!r}"
            )
        if principal in seen:
            raise ConfigError(
                f"principal of {party}: expected one of its own, found {principal!r}, which is "
                f"that of {seen[principal]} too; each would have the rights of both"
            )
        seen[principal] = party
