"""Waiting for records."""

from __future__ import annotations

import asyncio
import time

import pytest

from slstream.errors import (
    UnknownTopic,
)
from slstream.testing.transport_log import TransportFixtures, numbered, peer, run, values
from slstream.transport.connect import open_transport
from slstream.transport.contract import TopicConfig


class WaitContract(TransportFixtures):
    """Waits within one process and on others."""

    def test_wait_for_what_is_there(self, url: str, topic: str) -> None:
        async def body() -> None:
            async with await open_transport(url) as log:
                await log.create_topic(topic)
                await log.append(topic, numbered(2))
                assert await log.wait(topic, 0)
                assert await log.wait(topic, 1, timeout_s=0)

        run(body())

    def test_wait_gives_up_in_time(self, url: str, topic: str) -> None:
        async def body() -> None:
            async with await open_transport(url) as log:
                await log.create_topic(topic)
                began = time.monotonic()
                assert not await log.wait(topic, 0, timeout_s=0.3)
                assert 0.29 <= time.monotonic() - began < 5
                assert not await log.wait(topic, 0, timeout_s=0)

        run(body())

    def test_wait_wakes_at_its_own_offset(self, url: str, topic: str) -> None:
        async def body() -> None:
            async with await open_transport(url) as log, await open_transport(url) as other:
                await log.create_topic(topic, TopicConfig(partitions=2))
                waits = [asyncio.create_task(other.wait(topic, i)) for i in (2, 0, 1, 2)]
                elsewhere = asyncio.create_task(other.wait(topic, 0, partition=1))
                await asyncio.sleep(0.05)
                assert not any(wait.done() for wait in waits)
                await log.append(topic, numbered(2))
                assert await waits[1]
                assert await waits[2]
                await asyncio.sleep(0.05)
                assert not waits[0].done()
                assert not elsewhere.done()
                await log.append(topic, numbered(1))
                assert await waits[0]
                assert await waits[3]
                await log.append(topic, numbered(1), partition=1)
                assert await elsewhere

        run(body())

    def test_following_a_log_sees_each_record_once(self, url: str, topic: str) -> None:
        async def body() -> None:
            async with await open_transport(url) as log, await open_transport(url) as other:
                await log.create_topic(topic)

                async def follow() -> list[bytes]:
                    seen: list[bytes] = []
                    while len(seen) < 400:
                        await other.wait(topic, len(seen))
                        seen += values(await other.read(topic, len(seen)))
                    return seen

                follower = asyncio.create_task(follow())
                for i, record in enumerate(numbered(400)):
                    await log.append(topic, [record])
                    if i % 50 == 0:
                        await asyncio.sleep(0.01)
                assert await follower == [b"%d" % i for i in range(400)]

        run(body())

    def test_wait_for_a_topic_that_is_deleted(self, url: str, topic: str) -> None:
        async def body() -> None:
            async with await open_transport(url) as log:
                await log.create_topic(topic)
                wait = asyncio.create_task(log.wait(topic, 0))
                async with peer("delete", url, topic):
                    with pytest.raises(UnknownTopic, match=topic):
                        await wait

        run(body())
