from __future__ import annotations

import threading
from time import monotonic

import pytest

from slstream.errors import TransportDenied, TransportTimeout
from slstream.provisioning.cluster import topic_names
from slstream.provisioning.connection import connect
from slstream.transport.kafka.settings import KafkaSettings
from tests.kafka.login import Login
from tests.kafka.ports import Port
from tests.kafka.proxy import Proxy
from tests.kafka.shared import SecuredKafka

pytest_plugins = ["tests.kafka.fixtures"]


def test_a_broker_that_is_not_up() -> None:
    said: list[str] = []
    with Port() as port:
        settings = KafkaSettings.of(f"kafka://{port.address}", {})
        began = monotonic()
        with pytest.raises(TransportTimeout, match=f"expected 1 broker.*{port.address}.*1.5 s"):
            connect(settings, wait_s=1.5, on_wait=said.append)
    assert 1.5 <= monotonic() - began < 4
    (reason,) = said
    assert "Connection refused" in reason


def test_a_broker_that_comes_up_later(kafka: str) -> None:
    said: list[str] = []
    with Proxy() as proxy:
        settings = KafkaSettings.of(f"kafka://{proxy.address}", {})
        up = threading.Timer(1.5, lambda: setattr(proxy, "upstream", kafka))
        up.start()
        admin = connect(settings, wait_s=30, on_wait=said.append)
        up.join()
    assert len(said) == 1
    assert topic_names(admin, "no such prefix") == ()


def test_fewer_brokers_than_a_topic_shall_have_copies(kafka: str) -> None:
    settings = KafkaSettings.of(f"kafka://{kafka}?replication_factor=3", {})
    with pytest.raises(TransportTimeout, match="1 of 3 brokers are up"):
        connect(settings, wait_s=1, on_wait=lambda reason: None)


def test_a_wrong_password_is_told_at_once_and_never_shown(secured_kafka: SecuredKafka) -> None:
    login = Login.to(
        secured_kafka.sasl_plaintext, "SASL_PLAINTEXT", user="alice", password="open sesame"
    )
    began = monotonic()
    with pytest.raises(TransportDenied, match="expected to be let in") as raised:
        connect(login.settings(), wait_s=30, on_wait=lambda reason: None)
    assert monotonic() - began < 5
    assert "sesame" not in str(raised.value)


def test_a_broker_that_another_authority_vouches_for(secured_kafka: SecuredKafka) -> None:
    login = Login.to(secured_kafka.ssl, "SSL")  # which trusts the system's authorities
    with pytest.raises(TransportDenied, match="certificate"):
        connect(login.settings(), wait_s=30, on_wait=lambda reason: None)
