"""What a broker refused, in words: what, why, and what to do."""

from __future__ import annotations

from dataclasses import dataclass

from confluent_kafka import KafkaError, KafkaException

from slstream.errors import (
    TransportBroken,
    TransportDenied,
    TransportError,
    TransportTimeout,
)

_SHOWN_CHARACTERS = 200
_DENIED = frozenset(
    {
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
        KafkaError.GROUP_AUTHORIZATION_FAILED,
    }
)
_LATE = frozenset(
    {
        KafkaError._TIMED_OUT,
        KafkaError._TIMED_OUT_QUEUE,
        KafkaError.REQUEST_TIMED_OUT,
        KafkaError._TRANSPORT,
        KafkaError._ALL_BROKERS_DOWN,
    }
)
_REMEDIES = {
    KafkaError.INVALID_REPLICATION_FACTOR: (
        "start the brokers that are missing, or change replication_factor in the transport's URL"
    ),
    KafkaError.TOPIC_DELETION_DISABLED: "set delete.topic.enable=true on the broker",
    KafkaError.POLICY_VIOLATION: "ask who runs the broker: it has a policy for topics",
    KafkaError.INVALID_CONFIG: "ask who runs the broker whether it allows this setting",
}

OPERATOR_RIGHTS = (
    "run it as an operator: a super user, or one who has CREATE, ALTER and DESCRIBE on the cluster "
    "and ALL on the federation's topics; SLSTREAM_KAFKA_USERNAME or the client certificate says who"
)
"""What whoever provisions a federation needs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Something that could not be done; the rest was."""

    what: str
    """``create topic credit.lobby``."""
    cause: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.what}: {self.cause}; {self.remedy}"


def failure(what: str, error: Exception) -> Failure:
    """Why something could not be done.

    Args:
        what: it was.
        error: ``KafkaException`` or ``TimeoutError``.
    """
    kafka = _kafka_error(error)
    if kafka is None or kafka.code() in _LATE:
        return Failure(
            what=what,
            cause="the broker did not answer in time; it may be done all the same",
            remedy="see whether the broker runs, then run it again: it goes on where it stopped",
        )
    if kafka.code() in _DENIED:
        # What the broker says of it is a dump of its own objects.
        return Failure(what=what, cause="the broker does not allow it", remedy=OPERATOR_RIGHTS)
    return Failure(
        what=what,
        cause=f"the broker says {kafka.str()[:_SHOWN_CHARACTERS]!r} ({kafka.name()})",
        remedy=_REMEDIES.get(kafka.code(), "put that right, then run it again"),
    )


def as_error(what: str, error: Exception) -> TransportError:
    """The error to raise where nothing can be done without it."""
    kafka, text = _kafka_error(error), str(failure(what, error))
    if kafka is None or kafka.code() in _LATE:
        return TransportTimeout(text)
    return TransportDenied(text) if kafka.code() in _DENIED else TransportBroken(text)


def is_code(error: Exception, code: int) -> bool:
    """Whether a broker's answer was this error."""
    kafka = _kafka_error(error)
    return kafka is not None and kafka.code() == code


def _kafka_error(error: Exception) -> KafkaError | None:
    found = error.args[0] if isinstance(error, KafkaException) and error.args else None
    return found if isinstance(found, KafkaError) else None
