"""What Kafka's authorizer makes of access control entries: a model for tests without a broker."""

from __future__ import annotations

from collections.abc import Iterable

from slstream.provisioning.acls import Acl, Pattern, Resource

_IMPLY = {"DESCRIBE": {"READ", "WRITE", "DELETE", "ALTER"}, "DESCRIBE_CONFIGS": {"ALTER_CONFIGS"}}


def allows(
    acls: Iterable[Acl],
    principal: str,
    operation: str,
    name: str,
    resource: Resource = Resource.TOPIC,
) -> bool:
    """Whether a principal may do something; nothing is allowed that no entry allows."""
    enough = {operation, "ALL"} | _IMPLY.get(operation, set())
    return any(
        acl.operation in enough
        and acl.permission == "ALLOW"
        and acl.principal == principal
        and acl.resource is resource
        and _matches(acl, name)
        for acl in acls
    )


def _matches(acl: Acl, name: str) -> bool:
    return name.startswith(acl.name) if acl.pattern is Pattern.PREFIXED else name == acl.name
