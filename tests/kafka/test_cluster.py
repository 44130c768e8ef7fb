"""Three brokers, one of which is lost."""

from __future__ import annotations

import asyncio

import pytest

from tests.kafka.clients import consume, create_topic, producer
from tests.kafka.cluster import KafkaCluster

pytest_plugins = ["tests.kafka.fixtures"]

_S = 30


@pytest.mark.long
def test_goes_on_without_the_leader_and_takes_it_back(kafka_cluster: KafkaCluster) -> None:
    login = kafka_cluster.login()

    async def body() -> None:
        await create_topic(login, "t")
        async with producer(login) as client, asyncio.timeout(_S):
            await client.send_and_wait("t", b"before", partition=0)
            lost = await asyncio.to_thread(kafka_cluster.kill_leader, "t")
            await client.send_and_wait("t", b"after", partition=0)
            assert await asyncio.to_thread(kafka_cluster.leader, "t") is not lost
            await asyncio.to_thread(lost.start)
            await client.send_and_wait("t", b"again", partition=0)
        assert await consume(login, "t", 3) == [b"before", b"after", b"again"]

    asyncio.run(body())
