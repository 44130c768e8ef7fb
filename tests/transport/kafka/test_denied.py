"""What the Kafka transport says to those who may not."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)

from slstream.errors import TransportDenied, TransportError
from slstream.transport.kafka.settings import KafkaSettings
from slstream.transport.kafka.transport import KafkaTransport
from tests.kafka.certificates import Certificates
from tests.kafka.settings import ADMIN
from tests.kafka.shared import SecuredKafka
from tests.transport.kafka.logs import follow, new_topic, numbered, read_all, run, values

pytest_plugins = ["tests.kafka.fixtures"]


def allow(kafka: SecuredKafka, user: str, topic: str, *operations: AclOperation) -> None:
    admin = AdminClient({**kafka.login(ADMIN).settings().librdkafka_options()})
    wanted = [
        AclBinding(
            ResourceType.TOPIC,
            topic,
            ResourcePatternType.LITERAL,
            f"User:{user}",
            "*",
            operation,
            AclPermissionType.ALLOW,
        )
        for operation in operations
    ]
    for future in admin.create_acls(wanted).values():
        future.result()


def forbid(kafka: SecuredKafka, user: str, topic: str, operation: AclOperation) -> None:
    admin = AdminClient({**kafka.login(ADMIN).settings().librdkafka_options()})
    forbidden = AclBinding(
        ResourceType.TOPIC,
        topic,
        ResourcePatternType.LITERAL,
        f"User:{user}",
        "*",
        operation,
        AclPermissionType.DENY,
    )
    for future in admin.create_acls([forbidden]).values():
        future.result()


@pytest.mark.parametrize("listener", ["SASL_SSL", "SSL"])
def test_what_a_user_may_not_do_is_named(secured_kafka: SecuredKafka, listener: str) -> None:
    async def body() -> None:
        topic = new_topic()
        admin = await KafkaTransport.open(secured_kafka.login(ADMIN, listener).settings())
        mallory = await KafkaTransport.open(secured_kafka.login("mallory", listener).settings())
        async with admin, mallory:
            await admin.create_topic(topic)
            await admin.append(topic, numbered(3))
            assert len(await read_all(admin, topic)) == 3
            calls: list[Callable[[], Awaitable[object]]] = [
                lambda: mallory.append(topic, numbered(1)),
                lambda: mallory.read(topic, 0),
                lambda: mallory.wait(topic, 0),
                lambda: mallory.create_topic(topic),
                lambda: mallory.create_topic(f"{topic}.own"),
                lambda: mallory.delete_topic(topic),
                lambda: mallory.end_offset(topic),
            ]
            for call in calls:
                with pytest.raises(TransportDenied, match=f"{topic}.*slstream topology apply"):
                    await call()
            assert await mallory.topics(topic) == []
            assert await admin.end_offset(topic) == 3

    run(body())


def test_each_right_is_one_of_its_own(secured_kafka: SecuredKafka) -> None:
    topic, read, look = new_topic(), AclOperation.READ, AclOperation.DESCRIBE_CONFIGS

    async def body() -> None:
        admin = await KafkaTransport.open(secured_kafka.login(ADMIN).settings())
        bob = await KafkaTransport.open(secured_kafka.login("bob").settings())
        async with admin, bob:
            await admin.create_topic(topic)
            await admin.append(topic, numbered(3))
            await asyncio.to_thread(allow, secured_kafka, "bob", topic, read)
            assert len(await read_all(bob, topic)) == 3
            with pytest.raises(TransportDenied, match="DESCRIBE_CONFIGS"):
                await bob.append(topic, numbered(1))
            await asyncio.to_thread(allow, secured_kafka, "bob", topic, look)
            with pytest.raises(TransportDenied, match=r"IDEMPOTENT_WRITE|WRITE"):
                await bob.append(topic, numbered(1))
            await bob.create_topic(topic)  # It exists as it was asked for.
            with pytest.raises(TransportDenied, match="DESCRIBE"):
                await bob.create_topic(f"{topic}.other")
            await asyncio.to_thread(allow, secured_kafka, "bob", f"{topic}.other", read)
            with pytest.raises(TransportDenied, match="CREATE"):
                await bob.create_topic(f"{topic}.other")

    run(body())


def test_a_right_that_is_taken_away_is_missed_at_once(secured_kafka: SecuredKafka) -> None:
    topic, write = new_topic(), AclOperation.WRITE
    rights = (write, AclOperation.READ, AclOperation.DESCRIBE_CONFIGS)

    async def body() -> None:
        await asyncio.to_thread(allow, secured_kafka, "alice", topic, *rights)
        admin = await KafkaTransport.open(secured_kafka.login(ADMIN).settings())
        alice = await KafkaTransport.open(secured_kafka.login("alice").settings())
        async with admin, alice:
            await admin.create_topic(topic)
            assert await alice.append(topic, numbered(2)) == 0
            wait = asyncio.create_task(alice.wait(topic, 5))
            await asyncio.to_thread(forbid, secured_kafka, "alice", topic, write)
            async with asyncio.timeout(20):
                with pytest.raises(TransportDenied, match=f"{topic}.* WRITE"):
                    await append_until_refused(alice, topic)
            await asyncio.to_thread(forbid, secured_kafka, "alice", topic, AclOperation.READ)
            async with asyncio.timeout(20):
                with pytest.raises(TransportDenied, match=f"{topic}.* (READ|DESCRIBE)"):
                    await wait
            end = await admin.end_offset(topic)
            assert len(await follow(admin, topic, end)) == end

    run(body())


async def append_until_refused(log: KafkaTransport, topic: str) -> None:
    while True:
        await log.append(topic, numbered(1))


def with_environment(settings: KafkaSettings, **changes: object) -> KafkaSettings:
    return dataclasses.replace(settings, **changes)  # type: ignore[arg-type]


def test_a_wrong_password_is_said_at_once_and_not_repeated(
    secured_kafka: SecuredKafka, caplog: pytest.LogCaptureFixture
) -> None:
    async def body() -> None:
        wrong = with_environment(secured_kafka.login("bob").settings(), password="not-the-one")
        async with asyncio.timeout(10):
            with pytest.raises(TransportDenied, match="credentials") as caught:
                await KafkaTransport.open(wrong)
        assert "not-the-one" not in str(caught.value)
        assert "not-the-one" not in caplog.text

    caplog.set_level(logging.DEBUG, "slstream")
    run(body())


def test_a_broker_that_is_not_trusted_is_not_spoken_to(
    secured_kafka: SecuredKafka, tmp_path: Path
) -> None:
    async def body() -> None:
        others = Certificates.issue(tmp_path, [ADMIN])
        settings = with_environment(secured_kafka.login("bob").settings(), ca_file=others.authority)
        async with asyncio.timeout(10):
            with pytest.raises(TransportDenied, match="certificate"):
                await KafkaTransport.open(settings)

    run(body())


def test_a_client_certificate_that_is_missing_is_said_at_once(
    secured_kafka: SecuredKafka,
) -> None:
    async def body() -> None:
        settings = with_environment(
            secured_kafka.login("bob", "SSL").settings(), certificate_file=None, key_file=None
        )
        async with asyncio.timeout(10):
            with pytest.raises(TransportDenied, match=r"certificate|alert"):
                await KafkaTransport.open(settings)

    run(body())


def test_speaking_plain_text_to_tls_is_explained(secured_kafka: SecuredKafka) -> None:
    async def body() -> None:
        settings = KafkaSettings.of(f"kafka://{secured_kafka.sasl_ssl}", {})
        with pytest.raises(TransportError, match=r"open the log.*" + secured_kafka.sasl_ssl):
            await KafkaTransport.open(settings, stuck_s=1)

    run(body())


def test_records_of_a_secured_log_come_back(secured_kafka: SecuredKafka) -> None:
    async def body() -> None:
        topic = new_topic()
        for listener in ("SASL_SSL", "SASL_PLAINTEXT", "SSL"):
            async with await KafkaTransport.open(
                secured_kafka.login(ADMIN, listener).settings()
            ) as log:
                await log.create_topic(topic)
                await log.append(topic, numbered(1))
                assert values(await log.read(topic, 0))[0] == b"0"

    run(body())
