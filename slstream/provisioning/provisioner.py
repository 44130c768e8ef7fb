"""Bring a cluster to what a federation needs, or free it of a federation."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from confluent_kafka.admin import AdminClient

from slstream.frames.topics import parse_link_topic
from slstream.provisioning.acls import Acl, is_removable
from slstream.provisioning.changes import delete_topics, perform, remove_acls
from slstream.provisioning.cluster import TopicSize, found, topic_names, topic_sizes
from slstream.provisioning.failure import Failure
from slstream.provisioning.plan import Desired, Plan, compare, is_ours

SETTLED_S = 10.0
"""How long a broker may take to show what it has accepted."""

_AGAIN_S = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Remains:
    """What a federation has left on a cluster."""

    topics: tuple[TopicSize, ...]
    acls: tuple[Acl, ...]
    foreign: tuple[str, ...]
    """Topics whose names begin as the federation's do, of no kind that it has: left alone."""


def difference(admin: AdminClient, desired: Desired) -> Plan:
    """How the cluster differs from what is needed.

    Raises:
        TransportError: it cannot be read.
    """
    return compare(desired, found(admin, [topic.name for topic in desired.topics]))


def apply(admin: AdminClient, desired: Desired, plan: Plan, *, prune: bool) -> tuple[Failure, ...]:
    """Make the changes of a plan, and wait until the broker shows them.

    Args:
        admin: connected.
        desired: what is needed.
        plan: from :func:`difference`.
        prune: remove rights that no party needs, too.

    Returns:
        All that is not as it should be now.

    Raises:
        TransportError: the cluster cannot be read.
    """
    deadline = time.monotonic() + SETTLED_S
    while True:
        failures = perform(admin, plan.to_do(prune=prune))
        if failures:
            return failures + _misfits(plan)
        plan = difference(admin, desired)
        left = plan.to_do(prune=prune)
        if not left:
            return _misfits(plan)
        # Somebody else may have been faster, with other settings; or it does not show yet.
        if time.monotonic() >= deadline:
            return (
                Failure(
                    what=f"see {len(left)} of the changes",
                    cause=f"the broker took them, and does not show them after {SETTLED_S:g} s",
                    remedy="run it as a user who may see all topics of the federation, and alone",
                ),
                *_misfits(plan),
            )
        time.sleep(_AGAIN_S)


def _misfits(plan: Plan) -> tuple[Failure, ...]:
    return tuple(
        Failure(
            what=f"repair topic {misfit.topic}",
            cause=f"it has {misfit.what} {misfit.found}, expected {misfit.wanted}",
            remedy=misfit.remedy,
        )
        for misfit in plan.misfits
    )


def remains(
    admin: AdminClient, federation: str, sessions: Sequence[str], *, operator: str | None
) -> Remains:
    """What there is to be deleted of a federation.

    Args:
        admin: connected.
        federation: its name.
        sessions: only the links of these; none: everything, with the rights.
        operator: whose own rights are kept, see :class:`Desired`.

    Raises:
        TransportError: it cannot be read.
    """
    # Also for sessions alone: who may not see the rights may not see the topics, and would be told
    # that there are none.
    acls = found(admin, ()).acls or ()
    names = topic_names(admin, f"{federation}.")
    ours = [name for name in names if is_ours(name, federation)]
    if sessions:
        chosen = [name for name in ours if _session(name) in sessions]
        return Remains(topics=topic_sizes(admin, chosen), acls=(), foreign=())
    return Remains(
        topics=topic_sizes(admin, ours),
        acls=tuple(sorted(acl for acl in acls if is_removable(acl, federation, operator))),
        foreign=tuple(name for name in names if name not in ours),
    )


def destroy(admin: AdminClient, gone: Remains) -> tuple[Failure, ...]:
    """Delete for good, rights first: then no party creates a topic again meanwhile.

    Returns:
        What is still there.

    Raises:
        TransportError: the cluster cannot be read.
    """
    names = [topic.name for topic in gone.topics]
    failures = remove_acls(admin, gone.acls) + delete_topics(admin, names)
    deadline = time.monotonic() + SETTLED_S
    while not failures and set(names) & set(topic_names(admin, "")):
        if time.monotonic() >= deadline:
            return (
                Failure(
                    what="see the topics gone",
                    cause=f"the broker still shows some after {SETTLED_S:g} s",
                    remedy="end the parties that use them, then run it again",
                ),
            )
        time.sleep(_AGAIN_S)
    return failures


def _session(topic: str) -> str | None:
    try:
        return parse_link_topic(topic).session
    except ValueError:
        return None
