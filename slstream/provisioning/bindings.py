"""Access control entries in the words of the Kafka client, and back."""

from __future__ import annotations

from typing import Any

from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    ResourcePatternType,
    ResourceType,
)

from slstream.provisioning.acls import Acl, Pattern, Resource


def to_binding(acl: Acl) -> AclBinding:
    """What is added to the broker's."""
    return AclBinding(*_fields(acl))


def to_filter(acl: Acl) -> AclBindingFilter:
    """Matches this entry, and no other."""
    return AclBindingFilter(*_fields(acl))


def _fields(
    acl: Acl,
) -> tuple[ResourceType, str, ResourcePatternType, str, str, AclOperation, AclPermissionType]:
    return (
        ResourceType[acl.resource],
        acl.name,
        ResourcePatternType[acl.pattern],
        acl.principal,
        acl.host,
        AclOperation[acl.operation],
        AclPermissionType[acl.permission],
    )


def all_of(resource: Resource) -> AclBindingFilter:
    """Matches all entries about one kind of resource."""
    # The client says that its filters need texts; it takes None for any.
    anything: Any = None
    return AclBindingFilter(
        ResourceType[resource],
        anything,
        ResourcePatternType.ANY,
        anything,
        anything,
        AclOperation.ANY,
        AclPermissionType.ANY,
    )


def from_binding(binding: AclBinding) -> Acl:
    """What the broker has."""
    return Acl(
        principal=binding.principal,
        resource=Resource[_name(binding.restype)],
        pattern=Pattern[_name(binding.resource_pattern_type)],
        name=binding.name,
        operation=_name(binding.operation),
        permission=_name(binding.permission_type),
        host=binding.host,
    )


def _name(value: object) -> str:
    """Of the client's own enumerations, which it does not say that it uses."""
    return str(getattr(value, "name", value))
