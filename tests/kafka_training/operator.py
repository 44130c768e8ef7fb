"""What the operator of a broker does to its topics and users."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future
from typing import Any

from confluent_kafka import TopicPartition
from confluent_kafka.admin import (
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialDeletion,
    UserScramCredentialUpsertion,
)

from tests.kafka.login import Login

_ANSWER_S = 30
_SCRAM = ScramMechanism.SCRAM_SHA_512


class Operator:
    """With an admin's rights; everything is done on return."""

    def __init__(self, login: Login) -> None:
        options = login.settings().librdkafka_options()
        self._admin = AdminClient({**options, "log_level": 0})

    def delete_topic(self, topic: str) -> None:
        """With all that is in it."""
        _done(self._admin.delete_topics([topic]))

    def remove_records(self, topic: str, *, before: int) -> None:
        """As a topic's retention does."""
        _done(self._admin.delete_records([TopicPartition(topic, 0, before)]))

    def limit_records(self, topic: str, limit: int) -> int:
        """The largest batch that a topic takes from now on; gives that of before."""
        (before,) = _done(self._admin.describe_configs([ConfigResource(ResourceType.TOPIC, topic)]))
        operation = AlterConfigOpType.SET
        entry = ConfigEntry("max.message.bytes", str(limit), incremental_operation=operation)
        change = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])
        _done(self._admin.incremental_alter_configs([change]))
        return int(before["max.message.bytes"].value)

    def forbid(self, user: str) -> None:
        """Remove all rights of a user."""
        everything = AclBindingFilter(
            ResourceType.ANY,
            None,  # type: ignore[arg-type]  # any, whatever its types say
            ResourcePatternType.ANY,
            f"User:{user}",
            None,  # type: ignore[arg-type]
            AclOperation.ANY,
            AclPermissionType.ANY,
        )
        (gone,) = _done(self._admin.delete_acls([everything]))
        assert gone, user

    def remove_user(self, user: str) -> None:
        """Remove a user's credentials; connections that are open stay."""
        gone = UserScramCredentialDeletion(user, _SCRAM)
        _done(self._admin.alter_user_scram_credentials([gone]))

    def add_user(self, user: str, password: str) -> None:
        """Let a user in."""
        credentials = ScramCredentialInfo(_SCRAM, 4096)
        new = UserScramCredentialUpsertion(user, credentials, password.encode())
        _done(self._admin.alter_user_scram_credentials([new]))


def _done(futures: Mapping[Any, Future[Any]]) -> list[Any]:
    return [future.result(_ANSWER_S) for future in futures.values()]
