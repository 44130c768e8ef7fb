"""What a broker's error codes mean here."""

from __future__ import annotations

from aiokafka.errors import for_code

from slstream.errors import (
    RecordTooLarge,
    TransportBroken,
    TransportDenied,
    TransportError,
    UnknownTopic,
)

NO_ERROR = 0
OFFSET_OUT_OF_RANGE = 1
UNKNOWN_TOPIC = 3
INVALID_TOPIC = 17
TOPIC_EXISTS = 36
INVALID_REPLICATION_FACTOR = 38

NO_SUCH_TOPIC = frozenset({UNKNOWN_TOPIC, 100, 103})
"""The broker asked does not have the topic, or has another one of this name. Also said for a
moment by one that has not heard of it yet."""

LOST_PRODUCER = frozenset({45, 59})
"""The log does not hold what this producer wrote before, and has not taken what it writes now."""

_PASSING = {
    -1: "an unexpected error",
    2: "that the bytes arrived damaged",
    5: "that the partition has no leader",
    6: "that another broker leads the partition",
    7: "that its replicas did not follow in time",
    8: "that a broker is not available",
    9: "that a replica is not available",
    13: "that it lost a connection",
    14: "that it still loads what it needs",
    15: "that the group has no coordinator",
    16: "that another broker coordinates the group",
    19: "that too few replicas are in sync (min.insync.replicas)",
    20: "that too few replicas are in sync (min.insync.replicas)",
    INVALID_REPLICATION_FACTOR: (
        "that it knows fewer brokers than replicas were asked for; unless more are about to start, "
        "lower replication_factor in the transport's URL"
    ),
    41: "that another broker is the controller",
    74: "that another broker leads the partition",
    75: "that it does not lead the partition yet",
    78: "that it does not know yet what its replicas hold",
    89: "that a quota is used up",
}
"""What passes by itself when the cluster is as it should be."""

_DISK_FAILED = 56
_DENIED = frozenset({29, 30, 31, 65})
_TOO_LARGE = frozenset({10, 18})
_SEQUENCE = frozenset({46, 47, 90, *LOST_PRODUCER})


class NotYetError(Exception):
    """No answer, or one that says to ask again; the text says why. Stays in this package."""


class DiskFailedError(NotYetError):
    """Passes when another replica takes over, and never where there is none."""


def check_answer(code: int, operation: str, topic: str, *, detail: str | None = None) -> None:
    """Do nothing for success.

    Args:
        code: of the broker.
        operation: what was asked for, in Kafka's word for the right to it: ``WRITE``.
        topic: ``topic[partition]``, for the message.
        detail: what else the broker said.

    Raises:
        NotYetError: ask again; :class:`DiskFailedError` says it of a disk.
        TransportDenied: this user may not.
        UnknownTopic: the broker asked does not have the topic.
        RecordTooLarge: it is above the broker's limit.
        TransportBroken: the broker's account of what this producer wrote is another.
        TransportError: the broker refuses for another reason; retrying will not help.
    """
    if code == NO_ERROR:
        return
    if code in _PASSING:
        raise NotYetError(f"the broker says {_PASSING[code]}")
    if code == _DISK_FAILED:
        raise DiskFailedError("the broker says that its disk failed or is full")
    if code in _DENIED:
        raise denied(operation, topic)
    if code in NO_SUCH_TOPIC or code == INVALID_TOPIC:
        raise unknown_topic(topic)
    name, found = for_code(code).__name__, f" ({detail})" if detail else ""
    if code in _TOO_LARGE:
        raise RecordTooLarge(
            f"{topic}: the broker takes no record batch of this size; raise the topic's "
            "max.message.bytes, or send smaller records"
        )
    what = f"{operation} {topic}: the broker refuses with error {code}, {name}{found}"
    if code in _SEQUENCE:
        raise TransportBroken(f"{what}: it may or may not have what was sent last")
    raise TransportError(f"{what}; its own log says more")


def denied(operation: str, topic: str) -> TransportDenied:
    """The user has no right to something."""
    return TransportDenied(
        f"{topic}: the broker does not allow {operation} to this user; an operator grants a party "
        "what it needs with `slstream topology apply`"
    )


def unknown_topic(topic: str) -> UnknownTopic:
    """There is none, or no such partition."""
    return UnknownTopic(f"there is no topic {topic}; it was never created, or has been deleted")
