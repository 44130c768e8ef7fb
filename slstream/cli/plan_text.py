"""What a broker lacks and has too much of, as lines to read and as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from pydantic import JsonValue

from slstream.provisioning.acls import Acl
from slstream.provisioning.plan import (
    AddAcl,
    Change,
    ChangeSetting,
    CreateTopic,
    Misfit,
    Plan,
    RemoveAcl,
    Topic,
)


def plan_lines(plan: Plan, *, prune: bool) -> Iterator[str]:
    """One line per change; the rights of one user to one thing share a line.

    Args:
        plan: how a broker differs.
        prune: whether rights that no party needs are removed.
    """
    for change in plan.changes:
        match change:
            case CreateTopic(topic=topic):
                yield f"create topic {topic.name}"
            case ChangeSetting():
                found = "unknown" if change.found is None else change.found
                yield (
                    f"change topic {change.topic}: {change.setting} from {found} to {change.wanted}"
                )
            case Misfit():
                yield (
                    f"cannot change topic {change.topic}: expected {change.what} {change.wanted}, "
                    f"found {change.found}; {change.remedy}"
                )
    new = (c.topic for c in plan.changes if isinstance(c, CreateTopic))
    for details in dict.fromkeys(", ".join(_details(topic)) for topic in new):
        yield f"  created with {details}"
    for acl, operations in _grouped(c.acl for c in plan.changes if isinstance(c, AddAcl)):
        yield f"add {_right(acl, operations)}"
    left = "" if prune else " (not needed by any party; left, unless with --prune)"
    for acl, operations in _grouped(c.acl for c in plan.changes if isinstance(c, RemoveAcl)):
        yield f"remove {_right(acl, operations)}{left}"
    for acl, operations in _grouped(plan.others):
        yield f"note: no party's, and left alone: {_right(acl, operations)}"
    if not plan.has_authorizer:
        yield (
            "note: the broker has no authorizer, so whoever can reach it may read and write "
            "everything; no rights were compared"
        )


def plan_document(plan: Plan) -> dict[str, JsonValue]:
    """All of a plan."""
    return {
        "authorizer": plan.has_authorizer,
        "changes": [_document(change) for change in plan.changes],
        "other_acls": [acl_document(acl) for acl in plan.others],
    }


def acl_document(acl: Acl) -> dict[str, JsonValue]:
    """An entry, with Kafka's words."""
    return {
        "principal": acl.principal,
        "permission": acl.permission,
        "operation": acl.operation,
        "resource": acl.resource.value,
        "pattern": acl.pattern.value,
        "name": acl.name,
        "host": acl.host,
    }


def rights_lines(acls: Sequence[Acl]) -> Iterator[str]:
    """One line per user and thing."""
    for acl, operations in _grouped(acls):
        yield _right(acl, operations)


def _document(change: Change) -> dict[str, JsonValue]:
    match change:
        case CreateTopic(topic=topic):
            return {
                "change": "create topic",
                "topic": topic.name,
                "partitions": topic.partitions,
                "replication_factor": topic.replication_factor,
                "settings": dict(topic.settings),
            }
        case ChangeSetting():
            return {
                "change": "change setting",
                "topic": change.topic,
                "setting": change.setting,
                "found": change.found,
                "wanted": change.wanted,
            }
        case Misfit():
            return {
                "change": "cannot change",
                "topic": change.topic,
                "setting": change.what,
                "found": change.found,
                "wanted": change.wanted,
                "remedy": change.remedy,
            }
        case AddAcl(acl=acl):
            return {"change": "add acl", **acl_document(acl)}
        case RemoveAcl(acl=acl):
            return {"change": "remove acl", **acl_document(acl)}


def _details(topic: Topic) -> Iterator[str]:
    yield f"partitions={topic.partitions}"
    if topic.replication_factor is not None:
        yield f"replication factor={topic.replication_factor}"
    yield from (f"{name}={value}" for name, value in sorted(topic.settings.items()))


def _grouped(acls: Iterable[Acl]) -> Iterator[tuple[Acl, list[str]]]:
    """Entries that differ in their operation only, together."""
    groups: dict[Acl, list[str]] = {}
    for acl in acls:
        groups.setdefault(replace(acl, operation=""), []).append(acl.operation)
    yield from groups.items()


def _right(acl: Acl, operations: Sequence[str]) -> str:
    return str(replace(acl, operation=", ".join(operations)))
