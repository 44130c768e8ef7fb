"""A connection to a Kafka cluster's administrative interface, as soon as the cluster is up.

Synchronous, and every call has a deadline. Needs the package confluent-kafka (extra ``admin``).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient

from slstream.errors import ConfigError, TransportDenied, TransportTimeout
from slstream.provisioning.failure import as_error
from slstream.transport.kafka.settings import KafkaSettings

CALL_S = 30.0
"""Deadline of a request."""

RESULT_S = CALL_S + 5.0
"""Deadline of its answer, should the client not keep its own."""

SLICE_S = 1.0
"""Longest time without a look at the clock, and at whether the user has interrupted."""

_T = TypeVar("_T")


def connect(
    settings: KafkaSettings, *, wait_s: float, on_wait: Callable[[str], None]
) -> AdminClient:
    """Connect as soon as enough brokers are up.

    Args:
        settings: addresses and credentials; as many brokers are enough as a topic has replicas.
        wait_s: for how long to try.
        on_wait: is told, once, why it takes longer than a moment.

    Raises:
        TransportTimeout: they are not up in time; says why as far as it is known.
        TransportDenied: the broker does not know this user, or one does not trust the other.
        ConfigError: the client does not take the settings.
    """
    heard: list[KafkaError] = []
    options: dict[str, Any] = {
        "client.id": "slstream.topology",
        "reconnect.backoff.max.ms": 1000,
        "log_level": 0,  # what matters reaches error_cb
        **settings.librdkafka_options(),
        "error_cb": heard.append,
    }
    try:
        admin = AdminClient(options)
    except KafkaException as error:
        raise ConfigError(f"the Kafka client does not take its settings: {error}") from error
    wanted, deadline, told = settings.replication_factor or 1, time.monotonic() + wait_s, False
    while True:
        reason = _why_not(admin, wanted, heard, settings.brokers)
        if reason is None:
            return admin
        if time.monotonic() >= deadline:
            raise TransportTimeout(
                f"expected {wanted} broker(s) at {settings.brokers} within {wait_s:g} s: {reason}; "
                "start them, check the address, or wait longer with --wait SECONDS"
            )
        if not told:
            on_wait(reason)
            told = True
        time.sleep(0.2)


def result(what: str, future: Future[_T]) -> _T:
    """The answer to a request that nothing can be done without.

    Raises:
        TransportError: it failed, or there was none in time.
    """
    try:
        return future.result(RESULT_S)
    except (KafkaException, TimeoutError) as error:
        raise as_error(what, error) from error


def _why_not(
    admin: AdminClient, wanted: int, heard: list[KafkaError], addresses: str
) -> str | None:
    """Why the cluster cannot be used yet, if it cannot.

    Raises:
        TransportDenied: it never will be, as things are.
    """
    heard.clear()
    try:
        found = len(admin.list_topics(timeout=SLICE_S).brokers)
    except KafkaException:
        admin.poll(0)
    else:
        return None if found >= wanted else f"{found} of {wanted} brokers are up"
    for error in heard:
        if error.code() in (KafkaError._AUTHENTICATION, KafkaError._SSL):
            raise TransportDenied(
                f"expected to be let in by {addresses}, found: {error.str()}; check "
                "SLSTREAM_KAFKA_USERNAME, its password, and the certificate files"
            )
    told = [error.str() for error in heard if error.code() != KafkaError._ALL_BROKERS_DOWN]
    return told[-1] if told else "no answer; is SLSTREAM_KAFKA_SECURITY_PROTOCOL the listener's?"
