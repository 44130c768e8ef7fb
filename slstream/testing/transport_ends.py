"""Restart, closing, cancelling."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import pytest

from slstream.errors import (
    TransportClosed,
)
from slstream.testing.transport_log import TransportFixtures, numbered, read_all, run, values
from slstream.transport.connect import open_transport
from slstream.transport.contract import Durability, Record, TopicConfig


class EndContract(TransportFixtures):
    """What remains after an end."""

    def test_what_was_appended_is_there_after_a_restart(self, url: str, topic: str) -> None:
        async def body() -> None:
            config = TopicConfig(partitions=2, max_record_bytes=2000)
            async with await open_transport(url) as log:
                await log.create_topic(topic, config)
                await log.append(topic, numbered(10), partition=1)
            async with await open_transport(url) as log:
                assert await log.topic_config(topic) == config
                found = await log.read(topic, 0, partition=1)
                assert values(found) == [b"%d" % i for i in range(10)]
                assert await log.append(topic, numbered(1), partition=1) == 10

        run(body())

    @pytest.mark.parametrize("durability", Durability)
    def test_both_durabilities_and_flush(
        self, url: str, topic: str, durability: Durability
    ) -> None:
        async def body() -> None:
            async with await open_transport(url, durability=durability) as log:
                await log.create_topic(topic)
                await log.flush()
                await asyncio.gather(*(log.append(topic, [r]) for r in numbered(20)))
                await log.flush()
                await log.append(topic, numbered(1))
                await log.flush()
            async with await open_transport(url) as log:
                assert len(await read_all(log, topic)) == 21

        run(body())

    def test_closing_finishes_the_appends_in_flight(self, url: str, topic: str) -> None:
        async def body() -> None:
            log = await open_transport(url)
            await log.create_topic(topic)
            appends = [asyncio.create_task(log.append(topic, [r])) for r in numbered(50)]
            await asyncio.sleep(0)
            began = time.monotonic()
            await log.aclose()
            assert time.monotonic() - began < 5
            assert await asyncio.gather(*appends) == list(range(50))
            async with await open_transport(url) as again:
                assert len(await read_all(again, topic)) == 50

        run(body())

    def test_after_closing_every_call_says_so(self, url: str, topic: str) -> None:
        async def body() -> None:
            log = await open_transport(url)
            await log.create_topic(topic)
            wait = asyncio.create_task(log.wait(topic, 0))
            await asyncio.sleep(0.05)
            await asyncio.gather(log.aclose(), log.aclose())
            await log.aclose()
            with pytest.raises(TransportClosed):
                await wait
            calls: list[Callable[[], Awaitable[object]]] = [
                lambda: log.create_topic(topic),
                lambda: log.delete_topic(topic),
                lambda: log.topics(),
                lambda: log.topic_config(topic),
                lambda: log.append(topic, numbered(1)),
                lambda: log.read(topic, 0),
                lambda: log.start_offset(topic),
                lambda: log.end_offset(topic),
                lambda: log.wait(topic, 0),
                lambda: log.flush(),
            ]
            for call in calls:
                with pytest.raises(TransportClosed):
                    await call()

        run(body())

    def test_cancelled_calls_leave_it_usable(self, url: str, topic: str) -> None:
        async def body() -> None:
            async with await open_transport(url) as log:
                await log.create_topic(topic)
                for rounds in range(20):
                    calls = [
                        asyncio.create_task(log.append(topic, [Record(value=bytes(300_000))])),
                        asyncio.create_task(log.wait(topic, 1 << 40)),
                        asyncio.create_task(log.flush()),
                    ]
                    for _ in range(rounds % 4):
                        await asyncio.sleep(0)
                    for call in calls:
                        call.cancel()
                    outcomes = await asyncio.gather(*calls, return_exceptions=True)
                    assert any(isinstance(o, asyncio.CancelledError) for o in outcomes)
                last = await log.append(topic, [Record(value=b"last")])
                assert last == await log.end_offset(topic) - 1
                assert (await read_all(log, topic))[-1].value == b"last"

        run(body())
