"""What a federation needs on a broker, what the broker has, and how the two differ. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from slstream.frames.topics import (
    divergences_topic,
    incarnations_topic,
    link_topic,
    lobby_topic,
    parse_link_topic,
    schemas_topic,
    telemetry_topic,
)
from slstream.provisioning.acls import Acl, concerns_federation, is_removable
from slstream.topology import Topology

PARTITIONS = 1
"""Of every topic: the order of all records of a link, and of the lobby, is part of the protocol."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Topic:
    """A topic, as it should be or as it is."""

    name: str
    partitions: int = PARTITIONS
    replication_factor: int | None = None
    """Copies of each partition; ``None``: the broker's default will do."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """Kafka's names and values. Of a found topic all, with the broker's defaults."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Desired:
    """What a federation needs."""

    federation: str
    topics: tuple[Topic, ...]
    acls: frozenset[Acl]
    operator: str | None = None
    """Kafka's name of whoever is at work, if known: nobody takes rights from themselves."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a broker has of that."""

    topics: Mapping[str, Topic]
    """By name; those that are needed and exist."""
    acls: frozenset[Acl] | None
    """All that the broker has for topics and groups; ``None``: it has no authorizer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateTopic:
    """A topic that is missing."""

    topic: Topic


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeSetting:
    """A setting of a topic that is another one."""

    topic: str
    setting: str
    found: str | None
    """``None``: the broker does not know it."""
    wanted: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Misfit:
    """What only a new topic, or a tool of Kafka's own, can put right."""

    topic: str
    what: str
    found: int
    wanted: int

    @property
    def remedy(self) -> str:
        """What to do."""
        if self.what == "replication factor":
            return "move its replicas with kafka-reassign-partitions.sh, or change the URL's query"
        return "delete the topic, with all that is in it, and apply again"


@dataclass(frozen=True, slots=True, kw_only=True)
class AddAcl:
    """A right that is missing."""

    acl: Acl


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoveAcl:
    """A right to the federation's topics or groups that no party needs."""

    acl: Acl


Change = CreateTopic | ChangeSetting | Misfit | AddAcl | RemoveAcl


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How a broker differs from what a federation needs."""

    changes: tuple[Change, ...]
    others: tuple[Acl, ...]
    """Rights to the federation's topics that are not ours to judge: to more than those, too, or of
    the operator."""
    has_authorizer: bool

    @property
    def misfits(self) -> tuple[Misfit, ...]:
        """What ``apply`` cannot put right."""
        return tuple(change for change in self.changes if isinstance(change, Misfit))

    def to_do(self, *, prune: bool) -> tuple[Change, ...]:
        """The changes that ``apply`` makes."""
        return tuple(
            change
            for change in self.changes
            if not isinstance(change, Misfit) and (prune or not isinstance(change, RemoveAcl))
        )


def desired_topics(
    topology: Topology,
    sessions: Sequence[str],
    *,
    settings: Mapping[str, str],
    replication_factor: int | None,
) -> tuple[Topic, ...]:
    """The topics that a federation needs, and those of the links of some sessions.

    Args:
        topology: the federation.
        sessions: names of sessions whose links are needed too.
        settings: of each topic, as the transport creates it.
        replication_factor: of each topic, unless the broker's default will do.

    Raises:
        ValueError: the name of a session is not allowed.
    """
    return tuple(
        Topic(name=name, replication_factor=replication_factor, settings=settings)
        for name in (*_lasting(topology), *link_topics(topology, sessions))
    )


def _lasting(topology: Topology) -> Iterable[str]:
    federation = topology.federation
    yield lobby_topic(federation)
    yield schemas_topic(federation)
    for topic in (incarnations_topic, divergences_topic, telemetry_topic):
        yield from (topic(federation, party.id) for party in topology.parties)


def link_topics(topology: Topology, sessions: Sequence[str]) -> tuple[str, ...]:
    """The topics of all links of some sessions.

    Raises:
        ValueError: the name of a session is not allowed.
    """
    label = topology.label_party.id
    return tuple(
        link_topic(topology.federation, sender, receiver, session)
        for session in dict.fromkeys(sessions)
        for party in topology.feature_parties
        for sender, receiver in ((party.id, label), (label, party.id))
    )


def is_ours(topic: str, federation: str) -> bool:
    """Whether a topic is one of the kinds that a federation has, whatever its parties are.

    Names that begin with the federation's but say nothing else that we know may be another's.
    """
    last = topic.rpartition(".")[2]
    with suppress(ValueError):
        return parse_link_topic(topic).federation == federation
    with suppress(ValueError):
        lasting = (incarnations_topic, divergences_topic, telemetry_topic)
        if topic in {name(federation, last) for name in lasting}:
            return True
    return topic in (lobby_topic(federation), schemas_topic(federation))


def compare(desired: Desired, found: Found) -> Plan:
    """Compare what a federation needs with what a broker has."""
    changes: list[Change] = []
    for topic in desired.topics:
        there = found.topics.get(topic.name)
        changes += [CreateTopic(topic=topic)] if there is None else _differences(topic, there)
    if found.acls is None:
        return Plan(changes=tuple(changes), others=(), has_authorizer=False)
    changes += [AddAcl(acl=acl) for acl in sorted(desired.acls - found.acls)]
    extra = sorted(found.acls - desired.acls)
    removed = [acl for acl in extra if is_removable(acl, desired.federation, desired.operator)]
    others = tuple(
        acl for acl in extra if acl not in removed and concerns_federation(acl, desired.federation)
    )
    changes += [RemoveAcl(acl=acl) for acl in removed]
    return Plan(changes=tuple(changes), others=others, has_authorizer=True)


def _differences(wanted: Topic, found: Topic) -> Iterable[Change]:
    if found.partitions != wanted.partitions:
        yield Misfit(
            topic=wanted.name,
            what="partitions",
            found=found.partitions,
            wanted=wanted.partitions,
        )
    factor = wanted.replication_factor
    if factor is not None and found.replication_factor not in (None, factor):
        yield Misfit(
            topic=wanted.name,
            what="replication factor",
            found=found.replication_factor or 0,
            wanted=factor,
        )
    for setting, value in wanted.settings.items():
        there = found.settings.get(setting)
        if there != value:
            yield ChangeSetting(topic=wanted.name, setting=setting, found=there, wanted=value)
