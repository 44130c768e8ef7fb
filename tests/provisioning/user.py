"""What a user of a broker tries to do, and what comes of it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import AsyncExitStack

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.conn import create_conn
from aiokafka.errors import (
    ClusterAuthorizationFailedError,
    GroupAuthorizationFailedError,
    TopicAuthorizationFailedError,
)
from aiokafka.protocol.fetch import FetchRequest

from tests.kafka.login import Login

PATIENCE_S = 10
_DENIED = (
    TopicAuthorizationFailedError,
    ClusterAuthorizationFailedError,
    GroupAuthorizationFailedError,
)


class User:
    """Tries with plain clients: who is hostile does not run slstream."""

    def __init__(self, login: Login) -> None:
        self._settings = login.settings()

    def writable(self, topics: Iterable[str]) -> set[str]:
        """Those of the topics to which a record could be appended, with and without idempotence."""
        return asyncio.run(self._writable(topics))

    def readable(self, topics: Iterable[str]) -> set[str]:
        """Those of the topics, with a record in each, whose records the broker hands out.

        The one broker is asked for them outright: a client would look for the topics first, and
        without the right to see them never come to ask.
        """
        return asyncio.run(self._readable(topics))

    def may_commit(self, topic: str, group: str) -> bool:
        """Whether the user may say, as a member of a group, how far it has read a topic."""
        return asyncio.run(self._may_commit(topic, group))

    async def _writable(self, topics: Iterable[str]) -> set[str]:
        found = set()
        for topic in topics:
            plain, idempotent = [await self._append(topic, idempotence=i) for i in (False, True)]
            assert plain == idempotent, topic
            if plain:
                found.add(topic)
        return found

    async def _readable(self, topics: Iterable[str]) -> set[str]:
        options = self._settings.client_options()
        host, port = options.pop("bootstrap_servers")[0].split(":")
        wanted = [(topic, [(0, 0, 1)]) for topic in topics]
        async with asyncio.timeout(PATIENCE_S):
            connection = await create_conn(host, int(port), **options)
            try:
                answer = await connection.send(FetchRequest(0, 1, len(wanted), 0, wanted))
            finally:
                if (end := connection.close()) is not None:
                    await end
        # Of each partition: number, error code, ..., records.
        found = {topic: (part[1], part[-1]) for topic, (part,) in answer.topics}
        assert set(found) == {topic for topic, _ in wanted}
        assert {code for code, _ in found.values()} <= {0, TopicAuthorizationFailedError.errno}
        # The broker hands out at least one batch, of the first topic that it may.
        assert all(code == 0 or not records for code, records in found.values())
        assert any(records for _, records in found.values()) == any(
            code == 0 for code, _ in found.values()
        )
        return {topic for topic, (code, _) in found.items() if code == 0}

    async def _append(self, topic: str, *, idempotence: bool) -> bool:
        async with asyncio.timeout(PATIENCE_S), AsyncExitStack() as stack:
            options = self._settings.client_options()
            producer = AIOKafkaProducer(**options, enable_idempotence=idempotence)
            stack.push_async_callback(producer.stop)
            try:
                await producer.start()
                await producer.send_and_wait(topic, b"x", partition=0)
            except _DENIED:
                return False
            return True

    async def _may_commit(self, topic: str, group: str) -> bool:
        async with asyncio.timeout(PATIENCE_S), AsyncExitStack() as stack:
            options = self._settings.client_options()
            consumer = AIOKafkaConsumer(**options, group_id=group, enable_auto_commit=False)
            stack.push_async_callback(consumer.stop)
            await consumer.start()
            place = TopicPartition(topic, 0)
            consumer.assign([place])
            try:
                await consumer.commit({place: 1})
            except _DENIED:
                return False
            return True
