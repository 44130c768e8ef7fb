"""Appending and reading: order, density, atomicity, limits."""

from __future__ import annotations

import asyncio
import time

import pytest

from slstream.errors import (
    OffsetOutOfRange,
    RecordTooLarge,
    TransportError,
    UnknownTopic,
)
from slstream.testing.transport_log import TransportFixtures, numbered, read_all, run, values
from slstream.transport.connect import open_transport
from slstream.transport.contract import Record, TopicConfig


class RecordContract(TransportFixtures):
    """Order, density and content of what is appended and read."""

    def test_offsets_start_at_zero_and_are_dense(self, url: str, topic: str) -> None:
        async def body() -> None:
            async with await open_transport(url) as log:
                await log.create_topic(topic)
                assert await log.end_offset(topic) == 0
                offsets = [await log.append(topic, [record]) for record in numbered(5)]
                assert offsets == [0, 1, 2, 3, 4]
                assert (await log.start_offset(topic), await log.end_offset(topic)) == (0, 5)
                assert values(await read_all(log, topic)) == [b"0", b"1", b"2", b"3", b"4"]

        run(body())

    def test_appends_that_are_not_awaited_keep_their_order(self, url: str, topic: str) -> None:
        async def body() -> None:
            async with await open_transport(url) as log:
                await log.create_topic(topic)
                tasks = [asyncio.create_task(log.append(topic, [r])) for r in numbered(500)]
                assert await asyncio.gather(*tasks) == list(range(500))
                assert values(await read_all(log, topic)) == [b"%d" % i for i in range(500)]

        run(body())

    def test_more_than_the_memory_limit_in_flight(self, url: str, topic: str) -> None:
        async def body() -> None:
            payload = bytes(1 << 19)
            async with await open_transport(url) as log:
                await log.create_topic(topic)
                tasks = [
                    asyncio.create_task(log.append(topic, [Record(value=b"%d:" % i + payload)]))
                    for i in range(160)
                ]
                assert await asyncio.gather(*tasks) == list(range(160))
                assert [v.split(b":")[0] for v in values(await read_all(log, topic))] == [
                    b"%d" % i for i in range(160)
                ]

        run(body())

    def test_records_of_one_append_are_consecutive(self, url: str, topic: str) -> None:
        async def body() -> None:
            async with await open_transport(url) as log:
                await log.create_topic(topic)
                appends = [
                    [Record(value=b"%d:%d" % (i, j)) for j in range(1 + i % 7)] for i in range(60)
                ]
                firsts = await asyncio.gather(*(log.append(topic, a) for a in appends))
                records = await read_all(log, topic)
                for first, append in zip(firsts, appends, strict=True):
                    found = values(records[first : first + len(append)])
                    assert found == [record.value for record in append]

        run(body())

    @pytest.mark.parametrize(
        "record",
        [
            Record(value=b""),
            Record(value=b"v", key=None),
            Record(value=b"v", key=b""),
            Record(value=b"v", key=bytes(range(256))),
            Record(value=bytes(range(256)) * 11),
            Record(value=b"v", headers=(("kind", b"activation"), ("step", b"1/2"))),
            Record(value=b"v", headers=(("a", b"2"), ("b", b""), ("a", b"1"), ("a", b"2"))),
            Record(value=b"v", headers=(("\u00e9\U0001f600", b"\x00\xff"), ("", b"no name"))),
            Record(value=bytes(1_048_576)),
        ],
        ids=lambda record: f"{len(record.value)}-{record.key!r:.12}-{len(record.headers)}",
    )
    def test_a_record_comes_back_as_it_was(self, url: str, topic: str, record: Record) -> None:
        async def body() -> None:
            async with await open_transport(url) as log, await open_transport(url) as other:
                await log.create_topic(topic)
                before_ms = time.time_ns() // 1_000_000
                await log.append(topic, [record])
                after_ms = time.time_ns() // 1_000_000
                (found,) = await other.read(topic, 0)
                assert (found.value, found.key) == (record.value, record.key)
                assert found.headers == record.headers
                assert (found.topic, found.partition, found.offset) == (topic, 0, 0)
                assert before_ms <= found.timestamp_ms <= after_ms

        run(body())

    def test_timestamps_never_go_back(self, url: str, topic: str) -> None:
        async def body() -> None:
            async with await open_transport(url) as log:
                await log.create_topic(topic)
                await asyncio.gather(*(log.append(topic, [r]) for r in numbered(100)))
                stamps = [record.timestamp_ms for record in await read_all(log, topic)]
                assert stamps == sorted(stamps)

        run(body())

    def test_partitions_are_independent(self, url: str, topic: str) -> None:
        async def body() -> None:
            async with await open_transport(url) as log:
                await log.create_topic(topic, TopicConfig(partitions=3))
                for partition in (0, 2, 2):
                    await log.append(topic, [Record(value=b"%d" % partition)], partition=partition)
                ends = [await log.end_offset(topic, partition=p) for p in range(3)]
                assert ends == [1, 0, 2]
                assert values(await log.read(topic, 0, partition=2)) == [b"2", b"2"]
                assert await log.read(topic, 0, partition=1) == []

        run(body())

    def test_append_refuses_no_records(self, url: str, topic: str) -> None:
        async def body() -> None:
            async with await open_transport(url) as log:
                await log.create_topic(topic)
                with pytest.raises(ValueError, match="at least one"):
                    await log.append(topic, [])

        run(body())

    def test_too_large_a_record_appends_nothing(self, url: str, topic: str) -> None:
        async def body() -> None:
            async with await open_transport(url) as log:
                await log.create_topic(topic, TopicConfig(max_record_bytes=1000))
                fits = Record(value=bytes(900), key=bytes(90), headers=(("four", bytes(6)),))
                beyond = Record(value=bytes(900), key=bytes(90), headers=(("four", bytes(7)),))
                with pytest.raises(RecordTooLarge, match=r"1001.*1000"):
                    await log.append(topic, [fits, beyond])
                assert await log.end_offset(topic) == 0
                assert await log.append(topic, [fits]) == 0

        run(body())

    def test_a_refused_append_disturbs_no_other_but_those_queued_behind_it(
        self, url: str, topic: str
    ) -> None:
        async def body() -> None:
            async with await open_transport(url) as log:
                await log.create_topic(topic, TopicConfig(max_record_bytes=100))
                await log.create_topic(f"{topic}-other")
                outcomes = await asyncio.gather(
                    log.append(topic, [Record(value=b"a")]),
                    log.append(topic, [Record(value=bytes(101))]),
                    log.append(f"{topic}-none", [Record(value=b"x")]),
                    log.append(topic, [Record(value=b"b")]),
                    log.append(f"{topic}-other", [Record(value=b"c")]),
                    return_exceptions=True,
                )
                assert outcomes[0] == 0
                assert isinstance(outcomes[1], RecordTooLarge)
                assert isinstance(outcomes[2], UnknownTopic)
                assert outcomes[3] == 1 or isinstance(outcomes[3], TransportError)
                assert outcomes[4] == 0
                landed = [b"a", b"b"] if outcomes[3] == 1 else [b"a"]
                assert await log.append(topic, [Record(value=b"later")]) == len(landed)
                assert values(await read_all(log, topic)) == [*landed, b"later"]

        run(body())

    def test_read_limits(self, url: str, topic: str) -> None:
        async def body() -> None:
            async with await open_transport(url) as log:
                await log.create_topic(topic)
                await log.append(topic, [Record(value=bytes(100)) for _ in range(10)])
                assert len(await log.read(topic, 0)) == 10
                assert len(await log.read(topic, 0, max_records=3)) == 3
                assert len(await log.read(topic, 0, max_bytes=350)) == 3
                assert len(await log.read(topic, 0, max_bytes=1)) == 1
                assert [r.offset for r in await log.read(topic, 7)] == [7, 8, 9]
                assert await log.read(topic, 10) == []

        run(body())

    def test_offsets_out_of_range(self, url: str, topic: str) -> None:
        async def body() -> None:
            async with await open_transport(url) as log:
                await log.create_topic(topic)
                await log.append(topic, numbered(3))
                for offset in (-1, 4, 1 << 40):
                    with pytest.raises(OffsetOutOfRange, match="0 to 3"):
                        await log.read(topic, offset)

        run(body())

    def test_large_reads_and_many_records(self, url: str, topic: str) -> None:
        async def body() -> None:
            async with await open_transport(url) as log:
                await log.create_topic(topic)
                await log.append(topic, numbered(3000))
                await log.append(topic, [Record(value=bytes([i]) * 900_000) for i in range(12)])
                await log.append(topic, numbered(10))
            async with await open_transport(url) as log:
                found = values(await read_all(log, topic))
                assert found[:3000] == [b"%d" % i for i in range(3000)]
                assert found[3000:3012] == [bytes([i]) * 900_000 for i in range(12)]
                assert len(found) == 3022

        run(body())
