"""What the Kafka transport adds to the contract, on the broker that all tests share."""

from __future__ import annotations

import asyncio
import ssl
import time
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from slstream.errors import (
    ConfigError,
    OffsetOutOfRange,
    RecordTooLarge,
    TransportClosed,
    TransportError,
    TransportTimeout,
    UnknownTopic,
)
from slstream.transport.connect import open_transport
from slstream.transport.contract import Durability, Record, TopicConfig
from slstream.transport.kafka import connections, pool, reader
from slstream.transport.kafka.answers import NotYetError
from slstream.transport.kafka.batches import Producer, build_batch
from slstream.transport.kafka.cluster import Cluster
from slstream.transport.kafka.connections import address_of
from slstream.transport.kafka.settings import KafkaSettings
from slstream.transport.kafka.transport import KafkaTransport
from slstream.transport.kafka.wire import Exactly, ProduceRequest, fetch_request, metadata_request
from slstream.transport.kafka.writer import Append
from tests.kafka.proxy import Proxy
from tests.transport.kafka.logs import (
    follow,
    new_log,
    new_topic,
    numbered,
    open_log,
    read_all,
    run,
    values,
)

pytest_plugins = ["tests.kafka.fixtures"]


def test_a_monitor_reads_beside_a_writer_and_changes_nothing(kafka: str) -> None:
    async def body() -> None:
        async with (
            new_log(kafka) as (log, topic),
            await open_log(kafka, read_only=True) as monitor,
        ):
            wait = asyncio.create_task(monitor.wait(topic, 0))
            await log.append(topic, numbered(1))
            assert await wait
            assert values(await read_all(monitor, topic)) == [b"0"]
            for call in (
                monitor.create_topic(new_topic()),
                monitor.delete_topic(topic),
                monitor.append(topic, numbered(1)),
                monitor.flush(),
            ):
                with pytest.raises(TransportError, match="opened for reading only"):
                    await call
            await monitor.commit(f"{topic}-group", {topic: 1})
            assert await _committed(kafka, f"{topic}-group", topic) is None

    run(body())


async def _committed(address: str, group: str, topic: str) -> int | None:
    consumer = AIOKafkaConsumer(bootstrap_servers=address, group_id=group)
    await consumer.start()
    try:
        found = await consumer.committed(TopicPartition(topic, 0))
    finally:
        await consumer.stop()
    return None if found is None else int(found)


def test_offsets_of_a_reader_are_seen_by_kafkas_own_tools(kafka: str) -> None:
    async def body() -> None:
        async with new_log(kafka) as (log, topic):
            await log.append(topic, numbered(30))
            for offset in range(1, 30):
                await log.commit(f"{topic}-group", {topic: offset})
        # Closing has waited for the last one.
        assert await _committed(kafka, f"{topic}-group", topic) == 29

    run(body())


def test_the_largest_record_passes_with_key_and_headers(kafka: str) -> None:
    async def body() -> None:
        topic, limit = new_topic(), 100_000
        async with await open_log(kafka) as log:
            await log.create_topic(topic, TopicConfig(max_record_bytes=limit))
            headers = tuple((f"h{i:03d}", b"x" * 6) for i in range(500))
            record = Record(value=bytes(limit - 5000 - 10), key=bytes(10), headers=headers)
            assert await log.append(topic, [record, record]) == 0
            assert [r.headers for r in await read_all(log, topic)] == [headers] * 2

    run(body())


def test_a_large_append_is_cut_where_it_must_be(kafka: str) -> None:
    """Its pieces are batches of records that fit together, in order."""

    async def body() -> None:
        topic, limit = new_topic(), 100_000
        async with await open_log(kafka) as log:
            await log.create_topic(topic, TopicConfig(max_record_bytes=limit))
            whole = [Record(value=b"w" * 1000)] * (limit // 1064)
            large = [Record(value=b"%04d" % i * 5000) for i in range(40)]
            calls = [log.append(topic, large), log.append(topic, whole)]
            assert await asyncio.gather(*calls) == [0, 40]
            found = await read_all(log, topic)
            assert values(found) == [r.value for r in (*large, *whole)]
            # All records of a batch have the same LogAppendTime, and the second append is one.
            assert len({r.timestamp_ms for r in found[40:]}) == 1

    run(body())


def test_a_large_append_returns_when_its_last_piece_is_sent(
    kafka: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def body() -> None:
        async with new_log(kafka) as (log, topic):
            writer, done = log._writers.get(topic, 0), []
            confirm = writer._confirm

            def look(batch: Any, offset: int) -> None:
                confirm(batch, offset)
                done.append(batch.parts[0][0].answer.done())

            monkeypatch.setattr(writer, "_confirm", look)
            assert await log.append(topic, [Record(value=bytes(600_000))] * 4) == 0
            assert done == [False, False, False, True]

    run(body())


def test_small_appends_that_wait_share_a_batch(kafka: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def body() -> None:
        async with new_log(kafka) as (log, topic):
            writer = log._writers.get(topic, 0)
            batches: list[int] = []
            confirm = writer._confirm

            def count(batch: Any, offset: int) -> None:
                batches.append(len(batch.records))
                confirm(batch, offset)

            monkeypatch.setattr(writer, "_confirm", count)
            appends = (log.append(topic, [r]) for r in numbered(500))
            assert await asyncio.gather(*appends) == list(range(500))
            assert sum(batches) == 500
            assert len(batches) <= 2

    run(body())


async def _set_limit(address: str, topic: str, most: int) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=address)
    await admin.start()
    limits = {"max.message.bytes": str(most)}
    await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, configs=limits)])
    await admin.close()


def test_a_topic_whose_limit_was_lowered_takes_what_still_fits(kafka: str) -> None:
    """A batch of several appends is too large then; each one of them is judged by itself.

    Nothing lands behind the one that is refused until its caller knows.
    """

    async def body() -> None:
        async with new_log(kafka) as (log, topic):
            await log.append(topic, numbered(1))
            await _set_limit(kafka, topic, 16_384 + 20_000)
            sizes = (15_000, 18_000, 19_000, 50_000, 1_000)
            outcomes = await asyncio.gather(
                *(log.append(topic, [Record(value=bytes(size))]) for size in sizes),
                return_exceptions=True,
            )
            assert outcomes[:3] == [1, 2, 3]
            assert isinstance(outcomes[3], RecordTooLarge)
            assert "50000" in str(outcomes[3])
            assert isinstance(outcomes[4], TransportError)
            assert "not appended, as one before it was refused: " in str(outcomes[4])
            assert await log.append(topic, numbered(1)) == 4
            found = [len(v) for v in values(await log.read(topic, 1))]
            assert found == [15_000, 18_000, 19_000, 1]

    run(body())


def test_nothing_lands_behind_a_refused_append_before_its_caller_knows(kafka: str) -> None:
    async def body() -> None:
        async with new_log(kafka) as (log, topic):
            await _set_limit(kafka, topic, 16_384 + 20_000)
            loop = asyncio.get_running_loop()
            writer = log._writers.get(topic, 0)
            behind = Append(
                records=numbered(1), answer=loop.create_future(), settled=loop.create_future()
            )
            refused = asyncio.create_task(log.append(topic, [Record(value=bytes(50_000))]))
            await asyncio.sleep(0)
            assert writer.last is not None
            writer.last.answer.add_done_callback(lambda _: writer.put(behind))
            with pytest.raises(RecordTooLarge):
                await refused
            with pytest.raises(TransportError, match="not appended, as one before it was refused"):
                await behind.answer
            assert await log.end_offset(topic) == 0

    run(body())


def test_nothing_lands_behind_an_append_that_timed_out() -> None:
    """Also when the broker comes back before what is behind it has waited as long."""

    async def body() -> None:
        nowhere = KafkaSettings(addresses=("127.0.0.1:1",))
        async with KafkaTransport(nowhere, stuck_s=1) as log:
            first = asyncio.create_task(log.append("t", numbered(1)))
            await asyncio.sleep(0.5)
            behind = [asyncio.create_task(log.append("t", numbered(1))) for _ in range(3)]
            with pytest.raises(TransportTimeout):
                await first
            writer = log._writers.get("t", 0)
            assert [append.answer.cancelled() for append in writer._queue] == [True]
            for each in behind:
                with pytest.raises(TransportTimeout):
                    await each

    run(body())


def test_what_retention_removed_is_named(kafka: str) -> None:
    async def body() -> None:
        async with new_log(kafka) as (log, topic):
            await log.append(topic, numbered(10))
            admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
            await admin.start()
            await admin.delete_records({TopicPartition(topic, 0): RecordsToDelete(before_offset=4)})
            await admin.close()
            async with await open_log(kafka) as other:
                assert await other.wait(topic, 2, timeout_s=5)
                with pytest.raises(OffsetOutOfRange, match=r"4 to 10, found 2; .*retention"):
                    await other.read(topic, 2)
                assert await other.start_offset(topic) == 4
                assert len(await read_all(other, topic)) == 6

    run(body())


def test_a_topic_created_again_is_another_one(kafka: str) -> None:
    """Also for an object that has its records read ahead, and waits for more."""

    async def body() -> None:
        async with new_log(kafka) as (log, topic), await open_log(kafka) as other:
            await log.append(topic, numbered(50))
            assert values(await other.read(topic, 0, max_records=1)) == [b"0"]
            wait = asyncio.create_task(other.wait(topic, 50))
            await asyncio.sleep(0.1)
            await log.delete_topic(topic)
            await log.create_topic(topic)
            await log.append(topic, [Record(value=b"new %d" % i) for i in range(60)])
            with pytest.raises(UnknownTopic, match=topic):
                await wait
            assert values(await other.read(topic, 1))[:1] == [b"new 1"]

    run(body())


def test_a_leader_that_forgot_its_producer_is_told_again(kafka: str) -> None:
    """Here the producer has lost count: to the leader that is the same."""

    async def body() -> None:
        async with new_log(kafka) as (log, topic):
            await log.append(topic, numbered(1))
            producer = log._writers.get(topic, 0)._producer
            assert producer is not None
            producer.advance(5)
            frames = [Record(value=b"%d" % i * 300_000) for i in range(9)]
            appends = (log.append(topic, [frame]) for frame in frames)
            assert await asyncio.gather(*appends) == list(range(1, 10))
            assert values(await read_all(log, topic))[1:] == [f.value for f in frames]
            assert log._writers.get(topic, 0)._producer is not producer

    run(body())


def test_what_was_on_its_way_does_not_reach_another_topic(
    kafka: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def body() -> None:
        async with new_log(kafka) as (log, topic):
            await log.append(topic, numbered(1))
            asked = log._writers.get(topic, 0)._connections

            async def lose(*_: object) -> None:
                monkeypatch.undo()
                await log.delete_topic(topic)
                await log.create_topic(topic)
                raise NotYetError("no answer")

            monkeypatch.setattr(asked, "send", lose)
            with pytest.raises(UnknownTopic, match="deleted and created again"):
                await log.append(topic, numbered(1))
            assert await log.append(topic, numbered(1)) == 0

    run(body())


def test_read_ahead_is_not_trusted_for_long(kafka: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "TRUST_S", 0.0)
    monkeypatch.setattr(reader, "INTEREST_S", 0.0)

    async def body() -> None:
        async with new_log(kafka) as (log, topic), await open_log(kafka) as other:
            await log.append(topic, numbered(50))
            assert values(await other.read(topic, 0, max_records=1)) == [b"0"]
            await log.delete_topic(topic)
            await log.create_topic(topic)
            await log.append(topic, [Record(value=b"new %d" % i) for i in range(60)])
            assert values(await other.read(topic, 1))[0] == b"new 1"

    run(body())


def test_a_wait_ends_soon_after_its_topic(kafka: str) -> None:
    async def body() -> None:
        async with new_log(kafka) as (log, topic), await open_log(kafka) as other:
            wait = asyncio.create_task(other.wait(topic, 0))
            await asyncio.sleep(0.1)
            await log.delete_topic(topic)
            began = time.monotonic()
            with pytest.raises(UnknownTopic, match=topic):
                await wait
            assert time.monotonic() - began < 2

    run(body())


def test_who_reads_slowly_holds_little(kafka: str) -> None:
    async def body() -> None:
        async with new_log(kafka) as (log, topic), await open_log(kafka) as other:
            assert await other.read(topic, 0) == []
            wait = asyncio.create_task(other.wait(topic, 79))
            await asyncio.gather(
                *(log.append(topic, [Record(value=bytes(262_144))]) for _ in range(80))
            )
            # Though only a part of what comes before is kept.
            assert await wait
            await asyncio.sleep(0.2)
            kept = other._readers.get(topic, 0)
            assert 0 < kept._kept_bytes <= reader.READ_AHEAD_BYTES
            assert sum(len(r.value) for r in kept._kept) <= reader.READ_AHEAD_BYTES
            assert len(await follow(other, topic, 80)) == 80

    run(body())


def test_a_wait_and_its_read_cost_no_request_more_than_the_poll(
    kafka: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def body() -> None:
        async with new_log(kafka) as (log, topic), await open_log(kafka) as other:
            assert await other.read(topic, 0) == []
            asked = other._readers.get(topic, 0)._now
            requests: list[object] = []
            send = asked.send

            async def count(address: Any, request: Any) -> Any:
                requests.append(request)
                return await send(address, request)

            monkeypatch.setattr(asked, "send", count)
            for offset in range(20):
                wait = asyncio.create_task(other.wait(topic, offset))
                await log.append(topic, [Record(value=b"%d" % offset)])
                assert await wait
                assert values(await other.read(topic, offset)) == [b"%d" % offset]
            assert requests == []
            # And the end is seen with one.
            assert await other.read(topic, 20) == []
            assert len(requests) == 1

    run(body())


def test_what_is_not_in_use_is_closed(kafka: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "MOST", 3)

    async def body() -> None:
        topic = new_topic()
        async with await open_log(kafka) as log:
            await log.create_topic(topic, TopicConfig(partitions=8))
            waits = [asyncio.create_task(log.wait(topic, 0, partition=p)) for p in range(5)]
            await asyncio.sleep(0.2)
            assert len(log._readers.all()) == 5
            for p in range(8):
                assert await log.append(topic, numbered(2), partition=p) == 0
            assert await asyncio.gather(*waits) == [True] * 5
            for p in (7, 6, 5, 0, 1, 2, 3, 4):
                assert len(await log.read(topic, 0, partition=p)) == 2
                assert await log.append(topic, numbered(1), partition=p) == 2
            assert len(log._readers.all()) == 3
            assert len(log._writers.all()) == 3

    run(body())


def test_a_topic_of_step_durability_is_forced_to_the_disk_append_by_append(kafka: str) -> None:
    async def body() -> None:
        async with await open_log(kafka, durability=Durability.STEP) as log:
            admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
            topic = new_topic()
            await log.create_topic(topic)
            await admin.start()
            resource = ConfigResource(ConfigResourceType.TOPIC, topic)
            (answer,) = await admin.describe_configs([resource])
            await admin.close()
            found = {name: value for name, value, *_ in answer.resources[0][4]}
            assert found["flush.messages"] == "1"
            assert found["message.timestamp.type"] == "LogAppendTime"
            assert await log.append(topic, numbered(2)) == 0

    run(body())


def test_names_that_kafka_does_not_tell_apart_are_refused(kafka: str) -> None:
    async def body() -> None:
        topic = new_topic()
        async with await open_log(kafka) as log:
            await log.create_topic(f"{topic}.a")
            with pytest.raises(TransportError, match="collides"):
                await log.create_topic(f"{topic}_a")

    run(body())


def test_more_replicas_than_brokers_are_explained(kafka: str) -> None:
    async def body() -> None:
        async with await open_transport(f"kafka://{kafka}?replication_factor=3") as log:
            log._cluster.stuck_s = 0.5  # type: ignore[attr-defined]
            with pytest.raises(TransportError, match=r"create topic .*fewer brokers than replicas"):
                await log.create_topic(new_topic())

    run(body())


def test_a_bad_url_is_a_configuration_error() -> None:
    async def body() -> None:
        with pytest.raises(ConfigError, match="without a user or password"):
            await open_transport("kafka://me:secret@host")

    run(body())


def test_a_topic_whose_limit_is_below_the_framing_takes_nothing_and_says_so(kafka: str) -> None:
    async def body() -> None:
        async with new_log(kafka) as (log, topic):
            await _set_limit(kafka, topic, 16_000)
            with pytest.raises(RecordTooLarge) as caught:
                await log.append(topic, [Record(value=b"four")])
            assert str(caught.value) == (
                f"{topic}[0]: record 0 of this append has 4 bytes of key, headers and value; the "
                "topic takes none, as 16384 of its max.message.bytes are for framing: all, or "
                "more; raise max.message.bytes (`slstream topology apply` sets what parties want), "
                "or send smaller records"
            )

    run(body())


def test_a_wait_for_a_leader_that_answers_and_brings_nothing_has_an_end(
    kafka: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise NotYetError("the broker says that its disk failed or is full")

    async def body() -> None:
        async with new_log(kafka, stuck_s=1) as (log, topic):
            monkeypatch.setattr(reader, "check_answer", refuse)
            with pytest.raises(TransportTimeout, match=r"wait for .* at offset 0 within 1 s"):
                await log.wait(topic, 0, timeout_s=10)

    run(body())


def test_who_begins_to_wait_in_the_moment_of_closing_is_told(kafka: str) -> None:
    async def body() -> None:
        async with new_log(kafka) as (log, topic):
            assert await log.read(topic, 0) == []
            one = log._readers.get(topic, 0)
        with pytest.raises(TransportClosed):
            await one.wait(0, 5)
        assert one._poll is None

    run(body())


def test_nothing_is_dialled_after_the_end() -> None:
    dialled = 0

    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal dialled
        dialled += 1
        writer.close()

    async def body() -> None:
        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            address = server.sockets[0].getsockname()
            cluster = Cluster(KafkaSettings(addresses=("127.0.0.1:1",)), "test", 1)
            ended = cluster.connections("test")
            await ended.close()
            with pytest.raises(NotYetError, match="closed"):
                await ended.send(address, metadata_request([]))
        assert dialled == 0

    run(body())


def test_a_connection_that_the_broker_has_just_closed_is_replaced_and_ended(kafka: str) -> None:
    """Also before anybody has seen the end of what it sent."""

    async def body() -> None:
        cluster = Cluster(KafkaSettings.of(f"kafka://{kafka}", {}), "test", 60)
        connections, address = cluster.connections("test"), address_of(kafka)
        await connections.send(address, metadata_request([]))
        # Nothing is kept of it here but this: what nobody holds any more never ends itself.
        writer = connections._open[address].result()._writer
        connections._open[address].result()._reader.feed_eof()
        await connections.send(address, metadata_request([]))
        assert connections._open[address].result()._writer is not writer
        assert writer.is_closing()
        await connections.close()

    run(body())


def test_a_slow_link_is_waited_for_as_long_as_bytes_move(
    kafka: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "REQUEST_S", 0.5)

    async def body(proxy: Proxy) -> None:
        async with new_log(kafka) as (log, topic):
            record = Record(value=bytes(900_000))
            await log.append(topic, [record])
            view = await log._cluster.topic(topic)
            fetch = fetch_request(
                view.id, 0, view.partition(0).epoch, 0, max_wait_ms=0, max_bytes=1
            )
            batch = build_batch([record], Producer(id=-1, epoch=-1))
            produce = Exactly(ProduceRequest(topic, 0, 10_000, batch))
            slow, to = log._cluster.connections("test"), address_of(proxy.address)
            await slow.send(to, metadata_request([]))
            proxy.throttle(600_000)
            for request in (fetch, produce):
                began = time.monotonic()
                await slow.send(to, request)
                assert time.monotonic() - began > 2 * connections.REQUEST_S
            assert await log.end_offset(topic) == 2
            proxy.stall()
            with pytest.raises(NotYetError, match="no answer, and no part of one, within 0"):
                await slow.send(to, fetch)
            await slow.close()

    with Proxy(kafka) as proxy:
        run(body(proxy))


def test_a_hole_in_the_log_is_named(kafka: str) -> None:
    """Somebody else's transaction leaves one: its end has an offset and is no record."""

    async def body() -> None:
        async with new_log(kafka) as (log, topic):
            async with (
                AIOKafkaProducer(bootstrap_servers=kafka, transactional_id=topic) as other,
                other.transaction(),
            ):
                await other.send_and_wait(topic, b"foreign", partition=0)
            assert await log.wait(topic, 1, timeout_s=30), "the transaction has no end"
            assert await log.append(topic, numbered(1)) == 2
            assert len(await log.read(topic, 0)) >= 1
            with pytest.raises(
                OffsetOutOfRange, match=r"offset 1, found the next one at 2: .*clean"
            ):
                await log.read(topic, 1)

    run(body())


def test_certificates_are_read_once_for_all_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    made, original = [], KafkaSettings.ssl_context

    def count(self: KafkaSettings) -> ssl.SSLContext:
        made.append(original(self))
        return made[-1]

    monkeypatch.setattr(KafkaSettings, "ssl_context", count)
    settings = KafkaSettings(addresses=("one:9092",), security_protocol="SSL")
    cluster = Cluster(settings, "test", 1)
    for topic in ("a", "b", "c"):
        cluster.connections(topic)
    assert len(made) == 1


def test_appends_that_were_given_up_are_not_kept() -> None:
    """However long the broker is away."""

    async def body() -> None:
        async with KafkaTransport(KafkaSettings(addresses=("127.0.0.1:1",))) as log:
            for _ in range(50):
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.001):
                        await log.append("t", numbered(1))
            one = log._writers.get("t", 0)
            assert len(one._queue) == 1
            appending = asyncio.create_task(log.append("t", numbered(1)))
            flushing = asyncio.create_task(log.flush())
            await asyncio.sleep(0)
            assert one.last is not None
            appending.cancel()
            await flushing

    run(body())


@pytest.mark.parametrize("timeout_s", [0.0, 0.1])
def test_a_short_wait_is_short_without_a_broker(
    timeout_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "_FIND_S", 0.2)

    async def body() -> None:
        async with (
            KafkaTransport(KafkaSettings(addresses=("127.0.0.1:1",)), stuck_s=3) as log,
            asyncio.timeout(2),
        ):
            assert not await log.wait("t", 0, timeout_s=timeout_s)

    run(body())
