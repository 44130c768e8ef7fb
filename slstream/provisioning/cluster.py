"""What a Kafka cluster has: topics with their settings and sizes, and rights."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from confluent_kafka import KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import (
    AclOperation,
    AdminClient,
    ConfigResource,
    OffsetSpec,
    ResourceType,
    TopicMetadata,
)

from slstream.errors import TransportDenied
from slstream.provisioning.acls import Acl, Pattern, Resource
from slstream.provisioning.bindings import all_of, from_binding, to_filter
from slstream.provisioning.connection import CALL_S, RESULT_S, SLICE_S, result
from slstream.provisioning.failure import OPERATOR_RIGHTS, as_error, is_code
from slstream.provisioning.plan import Found, Topic

_NOBODY = "slstream-asks-whether-there-is-an-authorizer"
"""No topic and no user has this name, so that what is about both is about nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicSize:
    """What would be lost with a topic."""

    name: str
    records: int | None
    """``None``: the broker did not say."""


def found(admin: AdminClient, names: Iterable[str]) -> Found:
    """What there is of some topics, and all rights to topics and groups.

    Raises:
        TransportError: it cannot be read; says why and what to do.
    """
    return Found(topics=_topics(admin, names), acls=_acls(admin))


def topic_names(admin: AdminClient, prefix: str) -> tuple[str, ...]:
    """Names of the topics that begin so, sorted.

    Raises:
        TransportError: they cannot be read.
    """
    return tuple(sorted(name for name in _metadata(admin) if name.startswith(prefix)))


def topic_sizes(admin: AdminClient, names: Sequence[str]) -> tuple[TopicSize, ...]:
    """How many records there are in each topic; one that is gone is left out.

    Raises:
        TransportError: the topics cannot be read at all.
    """
    metadata = _metadata(admin)
    return tuple(
        TopicSize(
            name=name,
            records=_records(admin, [TopicPartition(name, n) for n in metadata[name].partitions]),
        )
        for name in names
        if name in metadata
    )


def _metadata(admin: AdminClient) -> Mapping[str, TopicMetadata]:
    deadline = time.monotonic() + CALL_S
    while True:
        try:
            return admin.list_topics(timeout=SLICE_S).topics
        except KafkaException as error:
            if time.monotonic() >= deadline:
                raise as_error("list the topics", error) from error


def _topics(admin: AdminClient, names: Iterable[str]) -> dict[str, Topic]:
    metadata = _metadata(admin)
    resources = [ConfigResource(ResourceType.TOPIC, name) for name in names if name in metadata]
    if not resources:
        return {}
    topics = {}
    answers = admin.describe_configs(resources, request_timeout=CALL_S)
    for resource, answer in answers.items():
        settings = result(f"read the settings of topic {resource.name}", answer)
        partitions = metadata[resource.name].partitions
        topics[resource.name] = Topic(
            name=resource.name,
            partitions=len(partitions),
            replication_factor=min((len(p.replicas) for p in partitions.values()), default=0),
            settings={entry.name: entry.value for entry in settings.values()},
        )
    return topics


def _records(admin: AdminClient, partitions: Sequence[TopicPartition]) -> int | None:
    def ends(spec: OffsetSpec) -> int:
        answers = admin.list_offsets(dict.fromkeys(partitions, spec), request_timeout=CALL_S)
        return sum(answer.result(RESULT_S).offset for answer in answers.values())

    try:
        return ends(OffsetSpec.latest()) - ends(OffsetSpec.earliest())
    except (KafkaException, TimeoutError):
        return None


def _acls(admin: AdminClient) -> frozenset[Acl] | None:
    if not _has_authorizer(admin):
        return None
    read: set[Acl] = set()
    # Not all kinds of resources at once: the client cannot name those that are newer than itself.
    for resource in Resource:
        answer = admin.describe_acls(all_of(resource), request_timeout=CALL_S)
        read.update(from_binding(binding) for binding in result("read the rights", answer))
    return frozenset(read)


def _has_authorizer(admin: AdminClient) -> bool:
    """Whether the broker keeps rights at all.

    The client's ``describe_acls`` answers "none" also where the broker has refused to tell. Its
    ``delete_acls`` passes the refusal on, so it is asked to remove a right that nobody has.

    Raises:
        TransportDenied: it does, and this user may not see them.
    """
    nobody = Acl(
        principal=f"User:{_NOBODY}",
        resource=Resource.TOPIC,
        pattern=Pattern.LITERAL,
        name=_NOBODY,
        operation="READ",
    )
    try:
        for answer in admin.delete_acls([to_filter(nobody)], request_timeout=CALL_S).values():
            answer.result(RESULT_S)
    except (KafkaException, TimeoutError) as error:
        if is_code(error, KafkaError.SECURITY_DISABLED):
            return False
        if not is_code(error, KafkaError.CLUSTER_AUTHORIZATION_FAILED):
            raise as_error("read the rights", error) from error
        if not _may_describe(admin):
            raise TransportDenied(
                f"read the rights: the broker does not let this user see them; {OPERATOR_RIGHTS}"
            ) from error
    return True


def _may_describe(admin: AdminClient) -> bool:
    answer = admin.describe_cluster(include_authorized_operations=True, request_timeout=CALL_S)
    cluster = result("read what this user may do", answer)
    return AclOperation.DESCRIBE in (cluster.authorized_operations or ())
