"""Changes to a Kafka cluster: each is made whatever becomes of the others.

A change that somebody else has made already is done: whoever looks at the cluster afterwards sees
whether it is as it was to be.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    ResourceType,
)

from slstream.provisioning.acls import Acl
from slstream.provisioning.bindings import to_binding, to_filter
from slstream.provisioning.connection import CALL_S, RESULT_S
from slstream.provisioning.failure import Failure, failure, is_code
from slstream.provisioning.plan import (
    AddAcl,
    Change,
    ChangeSetting,
    CreateTopic,
    RemoveAcl,
    Topic,
)


def perform(admin: AdminClient, changes: Sequence[Change]) -> tuple[Failure, ...]:
    """Make changes.

    Returns:
        What could not be done.
    """
    settings: dict[str, list[ChangeSetting]] = {}
    for change in changes:
        if isinstance(change, ChangeSetting):
            settings.setdefault(change.topic, []).append(change)
    return (
        *_create(admin, [change.topic for change in changes if isinstance(change, CreateTopic)]),
        *_alter(admin, settings),
        *_add(admin, [change.acl for change in changes if isinstance(change, AddAcl)]),
        *remove_acls(admin, [change.acl for change in changes if isinstance(change, RemoveAcl)]),
    )


def delete_topics(admin: AdminClient, names: Sequence[str]) -> tuple[Failure, ...]:
    """Delete topics with all that is in them; one that is gone already counts as done."""
    if not names:
        return ()
    answers = admin.delete_topics(list(names), request_timeout=CALL_S, operation_timeout=CALL_S)
    return _failures(
        ((f"delete topic {name}", answer) for name, answer in answers.items()),
        fine=KafkaError.UNKNOWN_TOPIC_OR_PART,
    )


def remove_acls(admin: AdminClient, acls: Sequence[Acl]) -> tuple[Failure, ...]:
    """Take rights away; one that is gone already counts as done."""
    if not acls:
        return ()
    by_filter = {to_filter(acl): acl for acl in acls}
    answers = admin.delete_acls(list(by_filter), request_timeout=CALL_S)
    return _failures((f"remove {by_filter[each]}", answer) for each, answer in answers.items())


def _create(admin: AdminClient, topics: Sequence[Topic]) -> tuple[Failure, ...]:
    if not topics:
        return ()
    wanted = [
        NewTopic(
            topic.name,
            num_partitions=topic.partitions,
            replication_factor=topic.replication_factor or -1,
            config=dict(topic.settings),
        )
        for topic in topics
    ]
    answers = admin.create_topics(wanted, request_timeout=CALL_S, operation_timeout=CALL_S)
    return _failures(
        ((f"create topic {name}", answer) for name, answer in answers.items()),
        fine=KafkaError.TOPIC_ALREADY_EXISTS,
    )


def _alter(
    admin: AdminClient, changes: Mapping[str, Sequence[ChangeSetting]]
) -> tuple[Failure, ...]:
    if not changes:
        return ()
    resources = [
        ConfigResource(
            ResourceType.TOPIC,
            topic,
            incremental_configs=[
                ConfigEntry(
                    change.setting, change.wanted, incremental_operation=AlterConfigOpType.SET
                )
                for change in settings
            ],
        )
        for topic, settings in changes.items()
    ]
    answers = admin.incremental_alter_configs(resources, request_timeout=CALL_S)
    return _failures(
        (f"change {', '.join(c.setting for c in changes[each.name])} of topic {each.name}", answer)
        for each, answer in answers.items()
    )


def _add(admin: AdminClient, acls: Sequence[Acl]) -> tuple[Failure, ...]:
    if not acls:
        return ()
    by_binding = {to_binding(acl): acl for acl in acls}
    answers = admin.create_acls(list(by_binding), request_timeout=CALL_S)
    return _failures((f"add {by_binding[each]}", answer) for each, answer in answers.items())


def _failures(
    started: Iterable[tuple[str, Future[Any]]], *, fine: int | None = None
) -> tuple[Failure, ...]:
    """Wait for all; an answer with the code ``fine`` is none."""
    found = []
    for what, answer in started:
        try:
            answer.result(RESULT_S)
        except (KafkaException, TimeoutError) as error:
            if fine is None or not is_code(error, fine):
                found.append(failure(what, error))
    return tuple(found)
