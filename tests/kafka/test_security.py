"""Users, certificates and rights, as a broker of the tests enforces them."""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiokafka.errors import (
    AuthenticationFailedError,
    ClusterAuthorizationFailedError,
    KafkaConnectionError,
)
from confluent_kafka import KafkaError as CoreError
from confluent_kafka.admin import AdminClient

from tests.kafka.certificates import Certificates
from tests.kafka.clients import consume, create_topic, produce
from tests.kafka.login import Login
from tests.kafka.settings import ADMIN
from tests.kafka.shared import SecuredKafka

pytest_plugins = ["tests.kafka.fixtures"]
pytestmark = pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")

_S = 20

LISTENERS = ("SASL_PLAINTEXT", "SASL_SSL", "SSL")


@pytest.fixture(autouse=True)
def _no_connection_is_left() -> Iterator[None]:
    """aiokafka forgets a connection on which a login failed: its warning is for nobody else."""
    yield
    gc.collect()


def new_topic() -> str:
    return f"security.{uuid.uuid4().hex}"


@pytest.mark.parametrize("listener", LISTENERS)
def test_admin_may_do_everything(secured_kafka: SecuredKafka, listener: str) -> None:
    login, topic = secured_kafka.login(ADMIN, listener), new_topic()

    async def body() -> None:
        await create_topic(login, topic)
        await produce(login, topic, [b"a", b"b"])
        assert await consume(login, topic, 2) == [b"a", b"b"]

    asyncio.run(body())


@pytest.mark.parametrize("listener", LISTENERS)
def test_user_without_a_right_is_refused(secured_kafka: SecuredKafka, listener: str) -> None:
    admin, mallory, topic = secured_kafka.login(ADMIN), "mallory", new_topic()

    async def body() -> None:
        await create_topic(admin, topic)
        # A producer is refused before it names a topic: a number for idempotence is given to
        # those only who may write to any topic.
        with pytest.raises(ClusterAuthorizationFailedError):
            await produce(secured_kafka.login(mallory, listener), topic, [b"mine"])

    asyncio.run(body())
    # Not by a consumer: aiokafka's waits for ever.
    options = secured_kafka.login(mallory, listener).settings().librdkafka_options()
    found = AdminClient({**options}).list_topics(topic, timeout=_S).topics[topic]
    assert found.error is not None
    assert found.error.code() == CoreError.TOPIC_AUTHORIZATION_FAILED


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN"])
def test_password_must_be_right(secured_kafka: SecuredKafka, mechanism: str) -> None:
    login = with_environment(secured_kafka.login(ADMIN), SASL_MECHANISM=mechanism)
    wrong = with_environment(login, PASSWORD=secured_kafka.passwords["alice"])
    topic = new_topic()

    async def body() -> None:
        await create_topic(login, topic)
        with pytest.raises((AuthenticationFailedError, KafkaConnectionError)):
            await produce(wrong, topic, [b"no"])

    asyncio.run(body())


def with_environment(login: Login, **variables: str) -> Login:
    more = {f"SLSTREAM_KAFKA_{name}": value for name, value in variables.items()}
    return dataclasses.replace(login, environment={**login.environment, **more})


@pytest.mark.parametrize("listener", ["SASL_SSL", "SSL"])
def test_client_does_not_trust_another_authority(
    secured_kafka: SecuredKafka, tmp_path: Path, listener: str
) -> None:
    others = Certificates.issue(tmp_path, [ADMIN])
    login = with_environment(secured_kafka.login(ADMIN, listener), CA_FILE=str(others.authority))

    async def body() -> None:
        with pytest.raises(KafkaConnectionError, match="Unable to bootstrap"):
            await produce(login, "t", [b"no"])

    asyncio.run(body())


@pytest.mark.parametrize("known", [True, False], ids=["of-another-authority", "none"])
def test_client_certificate_must_be_known(
    secured_kafka: SecuredKafka, tmp_path: Path, known: bool
) -> None:
    others = Certificates.issue(tmp_path, [ADMIN])
    login = with_environment(
        Login.to(secured_kafka.ssl, "SSL", certificates=others, user=ADMIN if known else None),
        CA_FILE=str(secured_kafka.certificates.authority),
    )

    async def body() -> None:
        with pytest.raises(KafkaConnectionError):
            await produce(login, "t", [b"no"])

    asyncio.run(body())
