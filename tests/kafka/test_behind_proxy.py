"""A broker whose clients see its proxy alone."""

from __future__ import annotations

import asyncio

from tests.kafka.clients import consume, create_topic, producer
from tests.kafka.handles import ProxiedKafka
from tests.kafka.login import Login

pytest_plugins = ["tests.kafka.fixtures"]

_S = 20


def test_sends_survive_cuts_and_stalls_once_each(proxied_kafka: ProxiedKafka) -> None:
    login, proxy = Login.to(proxied_kafka.address), proxied_kafka.proxy
    values = [bytes([number]) * 400_000 for number in range(3)]

    async def body() -> None:
        await create_topic(login, "t")
        async with producer(login) as client, asyncio.timeout(_S):
            proxy.cut_after(200_000, "up")
            await client.send_and_wait("t", values[0], partition=0)
            proxy.wait_until_cut(0)
            # The record arrives, and its acknowledgement does not.
            proxy.stall("down")
            sending = asyncio.create_task(client.send_and_wait("t", values[1], partition=0))
            await asyncio.sleep(0.3)
            proxy.cut()
            proxy.flow()
            await sending
            await client.send_and_wait("t", values[2], partition=0)
        proxy.cut_after(600_000, "down")
        assert await consume(login, "t", 3) == values
        proxy.wait_until_cut(0)

    asyncio.run(body())
    assert proxy.passed["up"] > 3 * 400_000 + 200_000
