"""The guarantees of a transport as tests: subclass :class:`TransportContract` and give a URL.

    class TestMyTransport(TransportContract):
        @pytest.fixture
        def url(self) -> str:
            return "mine://somewhere"

The URL must mean the same log in every process, so a transport of your own needs its entry point.
Each test uses topics of its own, so that all may share one broker.
"""

# ruff: noqa: D102 - a test's name says what it checks

from __future__ import annotations

import asyncio
import json
import sys
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from slstream.errors import (
    OffsetOutOfRange,
    RecordTooLarge,
    TopicExists,
    TransportClosed,
    UnknownTopic,
)
from slstream.testing.transport_peer import BATCH
from slstream.transport.connect import open_transport
from slstream.transport.contract import (
    Durability,
    Record,
    StoredRecord,
    TopicConfig,
    Transport,
)

_DEADLINE_S = 20.0


class Peer:
    """Another process that uses the same log."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def line(self) -> Any:
        """The next thing it has to say."""
        if self._process.stdout is None:
            raise RuntimeError("the peer was started without a pipe")
        async with asyncio.timeout(_DEADLINE_S):
            line = await self._process.stdout.readline()
        if not line:
            raise RuntimeError("the peer ended early; its standard error says why")
        return json.loads(line)

    async def kill(self) -> None:
        """SIGKILL, as when the machine's memory is full."""
        self._process.kill()
        await self._process.wait()


@asynccontextmanager
async def peer(
    task: str, url: str, topic: str, number: int = 0, label: str = ""
) -> AsyncIterator[Peer]:
    """Start a task of :mod:`slstream.testing.transport_peer`; it has opened the log on entry."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "slstream.testing.transport_peer"),
        *(task, url, topic, str(number), label),
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        started = Peer(process)
        if await started.line() != "ready":
            raise RuntimeError("the peer did not open the log")
        yield started
    finally:
        if process.returncode is None:
            process.kill()
        # Until the pipe is read to its end its transport stays open.
        await process.communicate()


def run(body: Coroutine[Any, Any, None]) -> None:
    """Run a test's coroutine with asyncio's own checks on."""

    async def limited() -> None:
        async with asyncio.timeout(50):
            await body

    asyncio.run(limited(), debug=True)


async def read_all(log: Transport, topic: str, partition: int = 0) -> list[StoredRecord]:
    """Every record that is kept, and a check that offsets have no holes."""
    offset = first = await log.start_offset(topic, partition=partition)
    records: list[StoredRecord] = []
    while found := await log.read(topic, offset, partition=partition):
        records += found
        offset = found[-1].offset + 1
    assert [r.offset for r in records] == list(range(first, first + len(records)))
    return records


def values(records: Sequence[StoredRecord]) -> list[bytes]:
    """Their values."""
    return [record.value for record in records]


def numbered(count: int) -> list[Record]:
    """Records that can be told apart."""
    return [Record(value=b"%d" % i) for i in range(count)]


class TransportContract:
    """All guarantees of :mod:`slstream.transport.contract`. Override :meth:`url`."""

    @pytest.fixture
    def url(self) -> str:
        """The log under test; the same in every process."""
        raise NotImplementedError("a subclass of TransportContract overrides the fixture 'url'")

    @pytest.fixture
    def topic(self) -> str:
        """A topic that no other test uses."""
        return f"contract-{uuid.uuid4().hex}"

    # Appending and reading.

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

    def test_a_refused_append_does_not_disturb_its_neighbours(self, url: str, topic: str) -> None:
        async def body() -> None:
            async with await open_transport(url) as log:
                await log.create_topic(topic, TopicConfig(max_record_bytes=100))
                outcomes = await asyncio.gather(
                    log.append(topic, [Record(value=b"a")]),
                    log.append(topic, [Record(value=bytes(101))]),
                    log.append(f"{topic}-none", [Record(value=b"x")]),
                    log.append(topic, [Record(value=b"b")]),
                    return_exceptions=True,
                )
                assert outcomes[0] == 0
                assert isinstance(outcomes[1], RecordTooLarge)
                assert isinstance(outcomes[2], UnknownTopic)
                assert outcomes[3] == 1
                assert values(await read_all(log, topic)) == [b"a", b"b"]

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

    # Topics.

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
                for suffix in (".b", ".a", "_a", ".a.x"):
                    await log.create_topic(topic + suffix)
                assert await other.topics(f"{topic}.") == [
                    f"{topic}.a",
                    f"{topic}.a.x",
                    f"{topic}.b",
                ]
                assert f"{topic}_a" in await other.topics()

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

    # Waiting.

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

    # Several processes.

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

    @pytest.mark.parametrize("size", [100, 100_000])
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

    # Ends.

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
