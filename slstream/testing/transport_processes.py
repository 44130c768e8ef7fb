"""Several processes on one log, one of them killed."""

from __future__ import annotations

import asyncio

import pytest

from slstream.testing.transport_log import TransportFixtures, numbered, peer, read_all, run, values
from slstream.testing.transport_peer import BATCH
from slstream.transport.connect import open_transport
from slstream.transport.contract import Record, Transport


class ProcessContract(TransportFixtures):
    """What processes see of each other."""

    def test_another_process_is_woken_and_reads(self, url: str, topic: str) -> None:
        async def body() -> None:
            async with await open_transport(url) as log:
                await log.create_topic(topic)
                async with peer("read_when_there", url, topic, 1) as reader:
                    await log.append(topic, [Record(value=b"first")])
                    await log.append(topic, [Record(value=b"second")])
                    assert await reader.line() == "second"

        run(body())

    def test_this_process_is_woken_by_another(self, url: str, topic: str) -> None:
        async def body() -> None:
            async with await open_transport(url) as log:
                await log.create_topic(topic)
                wait = asyncio.create_task(log.wait(topic, 4))
                async with peer("append_each", url, topic, 5, "a") as writer:
                    assert await wait
                    assert [await writer.line() for _ in range(5)] == [0, 1, 2, 3, 4]
                assert values(await log.read(topic, 0)) == [b"a:%d" % i for i in range(5)]

        run(body())

    def test_two_processes_append_to_one_partition(self, url: str, topic: str) -> None:
        async def body() -> None:
            async with await open_transport(url) as log:
                await log.create_topic(topic)
                async with peer("append_each", url, topic, 150, "other") as writer:
                    mine = [
                        await log.append(topic, [Record(value=b"mine:%d" % i)]) for i in range(150)
                    ]
                    theirs = [await writer.line() for _ in range(150)]
                assert sorted(mine + theirs) == list(range(300))
                found = values(await read_all(log, topic))
                for label, offsets in ((b"mine", mine), (b"other", theirs)):
                    assert [found[o] for o in offsets] == [
                        b"%s:%d" % (label, i) for i in range(150)
                    ]

        run(body())

    @pytest.mark.parametrize("size", [100, 45_000])
    def test_a_killed_writer_leaves_whole_appends(self, url: str, topic: str, size: int) -> None:
        async def body() -> None:
            async with await open_transport(url) as log:
                await log.create_topic(topic)
                for kill in range(3):
                    await self._kill_a_writer(log, url, topic, size, f"run{kill}")
                assert await log.append(topic, numbered(1)) == len(await read_all(log, topic)) - 1

        run(body())

    async def _kill_a_writer(
        self, log: Transport, url: str, topic: str, size: int, label: str
    ) -> None:
        start = await log.end_offset(topic)
        async with peer("append_batches", url, topic, size, label) as writer:
            sent = [await writer.line() for _ in range(12)]
            await writer.kill()
        found = [value[:40].split(b":")[:3] for value in values(await read_all(log, topic))[start:]]
        assert len(found) % BATCH == 0
        assert len(found) // BATCH > sent[-1]
        assert found == [
            [label.encode(), b"%d" % batch, b"%d" % place]
            for batch in range(len(found) // BATCH)
            for place in range(BATCH)
        ]
