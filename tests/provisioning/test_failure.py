from __future__ import annotations

import pytest
from confluent_kafka import KafkaError, KafkaException

from slstream.errors import TransportBroken, TransportDenied, TransportError, TransportTimeout
from slstream.provisioning.failure import as_error, failure, is_code


def said(code: int, text: str = "as it is") -> KafkaException:
    return KafkaException(KafkaError(code, text))


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (said(KafkaError.TOPIC_AUTHORIZATION_FAILED), TransportDenied),
        (said(KafkaError.CLUSTER_AUTHORIZATION_FAILED), TransportDenied),
        (said(KafkaError.REQUEST_TIMED_OUT), TransportTimeout),
        (said(KafkaError._TRANSPORT), TransportTimeout),
        (TimeoutError(), TransportTimeout),
        (said(KafkaError.INVALID_CONFIG), TransportBroken),
    ],
)
def test_the_kind_of_error(error: Exception, kind: type[TransportError]) -> None:
    raised = as_error("create topic x", error)
    assert type(raised) is kind
    assert str(raised).startswith("create topic x: ")


def test_what_the_broker_says_of_a_missing_right_is_not_repeated() -> None:
    found = failure("add a right", said(31, "Request(processor=2, java.nio.HeapByteBuffer)"))
    assert found.cause == "the broker does not allow it"
    assert "run it as an operator" in found.remedy
    assert "java" not in str(found)


def test_too_few_brokers() -> None:
    found = failure("create topic x", said(KafkaError.INVALID_REPLICATION_FACTOR, "only 1"))
    assert found.cause == "the broker says 'only 1' (INVALID_REPLICATION_FACTOR)"
    assert "replication_factor" in found.remedy


def test_a_broker_may_not_talk_for_ever() -> None:
    assert len(failure("x", said(KafkaError.POLICY_VIOLATION, "a" * 10_000)).cause) < 300


def test_codes() -> None:
    assert is_code(said(3), 3)
    assert not is_code(said(3), 4)
    assert not is_code(TimeoutError(), 3)
