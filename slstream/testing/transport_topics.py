"""Topics: creation, settings, deletion."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from slstream.errors import (
    TopicExists,
    UnknownTopic,
)
from slstream.testing.transport_log import TransportFixtures, numbered, run, values
from slstream.transport.connect import open_transport
from slstream.transport.contract import Record, TopicConfig


class TopicContract(TransportFixtures):
    """Topics by name."""

    def test_unknown_topics_and_partitions(self, url: str, topic: str) -> None:
        async def body() -> None:
            async with await open_transport(url) as log:
                await log.create_topic(topic, TopicConfig(partitions=2))
                calls: list[Callable[[str, int], Awaitable[object]]] = [
                    lambda t, p: log.append(t, [Record(value=b"")], partition=p),
                    lambda t, p: log.read(t, 0, partition=p),
                    lambda t, p: log.wait(t, 0, partition=p, timeout_s=0.1),
                    lambda t, p: log.start_offset(t, partition=p),
                    lambda t, p: log.end_offset(t, partition=p),
                ]
                for call in calls:
                    for name, partition in ((f"{topic}-none", 0), (topic, 2), (topic, -1)):
                        with pytest.raises(UnknownTopic, match=topic):
                            await call(name, partition)
                for other in (log.delete_topic, log.topic_config):
                    with pytest.raises(UnknownTopic, match=topic):
                        await other(f"{topic}-none")

        run(body())

    def test_creation_is_idempotent_for_equal_settings_only(self, url: str, topic: str) -> None:
        async def body() -> None:
            config = TopicConfig(
                partitions=2, retention_ms=3_600_000, retention_bytes=1 << 30, max_record_bytes=5000
            )
            async with await open_transport(url) as log:
                await log.create_topic(topic, config)
                await log.append(topic, numbered(1))
                await log.create_topic(topic, config)
                assert await log.topic_config(topic) == config
                assert await log.end_offset(topic) == 1
                with pytest.raises(TopicExists, match="partitions"):
                    await log.create_topic(topic)
                with pytest.raises(TopicExists, match="max_record_bytes"):
                    await log.create_topic(
                        topic,
                        TopicConfig(partitions=2, retention_ms=3_600_000, retention_bytes=1 << 30),
                    )

        run(body())

    @pytest.mark.parametrize("name", ["", "a b", "a/b", "\u00e9", "x" * 201, "..", "a\n"])
    def test_bad_topic_names(self, url: str, name: str) -> None:
        async def body() -> None:
            async with await open_transport(url) as log:
                with pytest.raises(ValueError, match="topic name"):
                    await log.create_topic(name)

        run(body())

    @pytest.mark.parametrize(
        "config",
        [
            TopicConfig(partitions=0),
            TopicConfig(retention_ms=-1),
            TopicConfig(retention_bytes=0),
            TopicConfig(max_record_bytes=0),
        ],
    )
    def test_bad_topic_settings(self, url: str, topic: str, config: TopicConfig) -> None:
        async def body() -> None:
            async with await open_transport(url) as log:
                with pytest.raises(ValueError, match="expected"):
                    await log.create_topic(topic, config)
                assert await log.topics(topic) == []

        run(body())

    def test_topics_by_prefix(self, url: str, topic: str) -> None:
        async def body() -> None:
            async with await open_transport(url) as log, await open_transport(url) as other:
                for suffix in (".b", ".a", "-a", ".a.x"):
                    await log.create_topic(topic + suffix)
                assert await other.topics(f"{topic}.") == [
                    f"{topic}.a",
                    f"{topic}.a.x",
                    f"{topic}.b",
                ]
                assert f"{topic}-a" in await other.topics()

        run(body())

    def test_a_deleted_topic_starts_anew(self, url: str, topic: str) -> None:
        async def body() -> None:
            async with await open_transport(url) as log, await open_transport(url) as other:
                await log.create_topic(topic)
                await log.append(topic, numbered(3))
                assert len(await other.read(topic, 0)) == 3
                await other.append(topic, numbered(1))
                await log.delete_topic(topic)
                assert topic not in await other.topics()
                with pytest.raises(UnknownTopic):
                    await other.read(topic, 0)
                with pytest.raises(UnknownTopic):
                    await other.append(topic, numbered(1))
                await log.create_topic(topic)
                assert await other.append(topic, [Record(value=b"new")]) == 0
                assert values(await log.read(topic, 0)) == [b"new"]

        run(body())
