"""Which cluster a federation is on, and what it needs there."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from slstream.errors import ConfigError
from slstream.provisioning.acls import federation_acls
from slstream.provisioning.plan import Desired, desired_topics
from slstream.topology import Topology
from slstream.transport.contract import Durability, TopicConfig
from slstream.transport.kafka.settings import KafkaSettings
from slstream.transport.kafka.topic_settings import topic_settings
from slstream.transport.shown import shown


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """Beside the topology, what decides over a federation's topics and rights."""

    sessions: Sequence[str] = ()
    """Whose links are needed too."""
    principals: Mapping[str, str]
    """Kafka's name of a party, where that is not ``User:<party>``."""
    may_create: bool = True
    """Whether parties may create the topics of their links."""


def kafka_settings(topology: Topology, environ: Mapping[str, str] = os.environ) -> KafkaSettings:
    """How the cluster of a federation is reached.

    Raises:
        ConfigError: its log is not on Kafka, or the URL or environment is not as it should be.
    """
    url = topology.transport
    if url is None or not url.startswith("kafka:"):
        found = "none, so the log in the run's own folder" if url is None else repr(shown(url))
        raise ConfigError(
            f"{topology.where('transport')}: expected kafka://host:9092, found {found}: only on "
            "Kafka are there topics and rights to provide; elsewhere parties create what they need"
        )
    return KafkaSettings.of(url, environ)


def desired(topology: Topology, settings: KafkaSettings, needs: Needs) -> Desired:
    """What a federation needs on its cluster.

    Raises:
        ConfigError: the name of a session or a principal is not allowed.
        TopologyError: a principal is given for a party that there is not.
    """
    each = topic_settings(
        TopicConfig(),
        durability=Durability(topology.durability),
        min_insync_replicas=settings.min_insync_replicas,
    )
    try:
        topics = desired_topics(
            topology,
            needs.sessions,
            settings=each,
            replication_factor=settings.replication_factor,
        )
    except ValueError as error:
        raise ConfigError(str(error)) from error
    acls = federation_acls(topology, principals=needs.principals, may_create=needs.may_create)
    return Desired(
        federation=topology.federation, topics=topics, acls=acls, operator=operator(settings)
    )


def operator(settings: KafkaSettings) -> str | None:
    """Kafka's name of whoever has these credentials; ``None`` when a certificate says it."""
    return f"User:{settings.username}" if settings.username else None
