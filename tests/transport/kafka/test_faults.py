"""What the Kafka transport does when brokers, connections and disks fail."""

from __future__ import annotations

import asyncio
import gc
import logging
import time
from collections.abc import Awaitable, Callable, Sequence

import pytest

from slstream.errors import (
    TransportBroken,
    TransportClosed,
    TransportTimeout,
    UnknownTopic,
)
from slstream.transport.contract import Record
from slstream.transport.kafka import connections, writer
from slstream.transport.kafka.batches import Producer
from slstream.transport.kafka.transport import KafkaTransport
from tests.kafka.broker import Broker
from tests.kafka.cluster import KafkaCluster
from tests.kafka.handles import ProxiedKafka, StartKafka
from tests.kafka.settings import BrokerSettings
from tests.transport.kafka.logs import follow, numbered, open_log, read_all, run, values

pytest_plugins = ["tests.kafka.fixtures"]

FRAME = bytes(150_000)


async def append_all(log: KafkaTransport, count: int, first: int = 0) -> Sequence[int]:
    """Append numbered frames, eight at a time."""
    offsets: list[int] = []
    for begin in range(first, first + count, 8):
        numbers = range(begin, min(begin + 8, first + count))
        appends = (log.append("t", [Record(value=b"%d:" % i + FRAME)]) for i in numbers)
        offsets += await asyncio.gather(*appends)
    return offsets


def numbers(found: Sequence[bytes]) -> list[int]:
    return [int(value.partition(b":")[0]) for value in found]


def test_a_killed_broker_loses_and_repeats_nothing(
    own_kafka: Broker, caplog: pytest.LogCaptureFixture
) -> None:
    async def body() -> None:
        async with await open_log(own_kafka.address) as log:
            await log.create_topic("t")
            async with await open_log(own_kafka.address) as other:
                following = asyncio.create_task(follow(other, "t", 200))
                appending = asyncio.create_task(append_all(log, 200))
                await other.wait("t", 20)
                await asyncio.to_thread(own_kafka.kill)
                # Who comes while it is away waits for it too.
                opening = asyncio.create_task(open_log(own_kafka.address))
                await asyncio.sleep(0.3)
                assert not opening.done()
                await asyncio.to_thread(own_kafka.start)
                assert await appending == list(range(200))
                assert numbers(await following) == list(range(200))
                async with await opening as late:
                    assert numbers(values(await read_all(late, "t"))) == list(range(200))

    run(body())
    # Each of the three says so once, and nothing else; asyncio may find a step slow.
    warnings = (r for r in caplog.records if r.levelno >= logging.WARNING and r.name != "asyncio")
    said = [r.getMessage() for r in warnings]
    assert said.count("broker is back") == said.count("broker lost, trying again") == len(said) / 2
    assert 2 <= len(said) <= 6


def test_a_frozen_broker_loses_and_repeats_nothing(
    own_kafka: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when requests are given up meanwhile and made again."""
    monkeypatch.setattr(connections, "REQUEST_S", 0.5)

    async def body() -> None:
        async with await open_log(own_kafka.address) as log:
            await log.create_topic("t")
            async with await open_log(own_kafka.address) as other:
                following = asyncio.create_task(follow(other, "t", 100))
                assert await append_all(log, 8) == list(range(8))
                appending = asyncio.create_task(append_all(log, 92, first=8))
                await asyncio.sleep(0)
                own_kafka.freeze()
                await asyncio.sleep(2.5)
                assert not appending.done()
                own_kafka.thaw()
                assert await appending == list(range(8, 100))
                assert numbers(await following) == list(range(100))

    run(body())


@pytest.mark.long
def test_a_broker_frozen_for_long_loses_and_repeats_nothing(own_kafka: Broker) -> None:
    async def body() -> None:
        async with await open_log(own_kafka.address) as log:
            await log.create_topic("t")
            assert await append_all(log, 8) == list(range(8))
            appending = asyncio.create_task(append_all(log, 92, first=8))
            waiting = asyncio.create_task(log.wait("t", 99))
            await asyncio.sleep(0)
            own_kafka.freeze()
            await asyncio.sleep(25)
            assert not appending.done()
            assert not waiting.done()
            own_kafka.thaw()
            assert await appending == list(range(8, 100))
            assert await waiting
            assert numbers(await follow(log, "t", 100)) == list(range(100))

    run(body())


def without_identity(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let leaders take every batch for a new one."""

    async def nobody(self: object) -> Producer:
        return Producer(id=-1, epoch=-1)

    monkeypatch.setattr(writer.PartitionWriter, "_new_producer", nobody)


@pytest.mark.parametrize("control", [False, True], ids=["", "without-identity"])
def test_cut_connections_lose_and_repeat_nothing(
    proxied_kafka: ProxiedKafka, monkeypatch: pytest.MonkeyPatch, control: bool
) -> None:
    if control:
        without_identity(monkeypatch)
    proxy = proxied_kafka.proxy

    async def body() -> None:
        async with await open_log(proxied_kafka.address) as log:
            await log.create_topic("t")
            await append_all(log, 8)
            # In mid-send.
            proxy.cut_after(100_000, "up")
            await append_all(log, 8, first=8)
            await asyncio.to_thread(proxy.wait_until_cut)
            # The answer is lost, what was sent is not.
            proxy.stall("down")
            appending = asyncio.create_task(append_all(log, 8, first=16))
            await asyncio.sleep(0.5)
            proxy.cut()
            proxy.flow()
            await appending
        async with await open_log(proxied_kafka.address) as log:
            # In mid-fetch.
            proxy.cut_after(1_000_000, "down")
            found = numbers(values(await read_all(log, "t")))
            await asyncio.to_thread(proxy.wait_until_cut)
        if control:
            assert len(found) > 24
            assert sorted(set(found)) == list(range(24))
        else:
            assert found == list(range(24))

    run(body())


@pytest.mark.long
@pytest.mark.timeout(300)
def test_a_link_of_40_kb_a_second_passes_the_largest_batches(proxied_kafka: ProxiedKafka) -> None:
    proxy = proxied_kafka.proxy
    records = [Record(value=bytes([number]) * 500_000) for number in range(5)]

    async def body() -> None:
        async with await open_log(proxied_kafka.address) as log:
            await log.create_topic("t")
            proxy.throttle(40_000)
            assert await log.append("t", records) == 0
            async with await open_log(proxied_kafka.address, read_only=True) as other:
                assert values(await read_all(other, "t")) == [each.value for each in records]

    asyncio.run(body())


@pytest.mark.long
def test_a_broker_that_stays_away_is_named(own_kafka: Broker) -> None:
    """And neither deadlines nor closing wait for it; what was on its way arrives later."""

    async def body() -> None:
        address = own_kafka.address
        async with await open_log(address) as setting_up:
            await setting_up.create_topic("t")
            await append_all(setting_up, 8)
        log, idle = await open_log(address, stuck_s=1.5), await open_log(address)
        assert await append_all(log, 1, first=8) == [8]
        assert await idle.end_offset("t") == 9
        await asyncio.to_thread(own_kafka.kill)
        calls: dict[str, Callable[[], Awaitable[object]]] = {
            r"append to t\[0\]": lambda: append_all(log, 1, first=9),
            r"read t\[0\] at offset 0": lambda: log.read("t", 0),
            r"wait for t\[0\] at offset 9": lambda: log.wait("t", 9),
            r"find the end of t\[0\]": lambda: log.end_offset("t"),
            "create topic u": lambda: log.create_topic("u"),
            "open the log": lambda: open_log(address, stuck_s=1.5),
        }
        began = time.monotonic()
        tasks = {what: asyncio.ensure_future(call()) for what, call in calls.items()}
        short = asyncio.create_task(_wait_again_and_again(log))
        for what, task in tasks.items():
            with pytest.raises(TransportTimeout, match=f"{what} within 1.5 s at {address}: .*"):
                await task
        with pytest.raises(TransportTimeout, match=r"wait for t\[0\] at offset 9"):
            await short
        assert time.monotonic() - began < 8
        # One that has nothing to send ends at once.
        wait = asyncio.create_task(idle.wait("t", 9))
        await asyncio.sleep(0.2)
        began = time.monotonic()
        await idle.aclose()
        assert time.monotonic() - began < 1
        with pytest.raises(TransportClosed):
            await wait
        # Usable again as soon as the broker is.
        pending = asyncio.create_task(append_all(log, 1, first=10))
        log._cluster.stuck_s = 60
        await asyncio.to_thread(own_kafka.start)
        assert await pending == [10]
        assert numbers(await follow(log, "t", 11)) == list(range(11))
        # One that has something to send tries for a while, and leaves nothing behind.
        unheard: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, told: unheard.append(told))
        trying = await open_log(address)
        assert await trying.end_offset("t") == 11
        await asyncio.to_thread(own_kafka.kill)
        pending = asyncio.create_task(append_all(trying, 1, first=11))
        await asyncio.sleep(0.5)
        await trying.aclose()
        with pytest.raises(TransportBroken, match="may or may not be in the log"):
            await pending
        del trying, pending
        gc.collect()
        assert unheard == []
        await asyncio.to_thread(own_kafka.start)
        own_kafka.freeze()
        pending = asyncio.create_task(append_all(log, 1, first=11))
        await asyncio.sleep(0.1)
        began = time.monotonic()
        await log.aclose()
        assert time.monotonic() - began < 5
        with pytest.raises(TransportBroken, match="may or may not be in the log"):
            await pending

    run(body())


async def _wait_again_and_again(log: KafkaTransport) -> None:
    while not await log.wait("t", 9, timeout_s=0.3):
        pass


@pytest.mark.long
def test_a_full_disk_is_named(start_kafka: StartKafka, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "TAKE_OVER_S", 0.5)
    broker = start_kafka(BrokerSettings(disks=2))

    async def body() -> None:
        async with await open_log(broker.address) as log:
            await log.create_topic("t")
            await append_all(log, 1)
            broker.fill_disk(100_000)
            with pytest.raises(TransportBroken, match=r"append to t\[0\]: the disk .* is full"):
                await append_all(log, 8, first=1)
            await asyncio.to_thread(broker.restart)
            assert numbers(values(await read_all(log, "t")))[:1] == [0]

    run(body())


@pytest.mark.long
def test_a_broker_that_creates_topics_by_itself_is_not_led_to(start_kafka: StartKafka) -> None:
    broker = start_kafka(BrokerSettings(properties={"auto.create.topics.enable": "true"}))

    async def body() -> None:
        async with await open_log(broker.address) as log, await open_log(broker.address) as other:
            await log.create_topic("t")
            await log.append("t", numbered(1))
            wait = asyncio.create_task(log.wait("t", 1))
            await asyncio.sleep(0.1)
            await other.delete_topic("t")
            calls: list[Callable[[], Awaitable[object]]] = [
                lambda: wait,
                lambda: log.append("t", numbered(1)),
                lambda: log.read("t", 0),
                lambda: log.append("u", numbered(1)),
                lambda: log.read("u", 0),
            ]
            for call in calls:
                with pytest.raises(UnknownTopic):
                    await call()
            await asyncio.sleep(0.3)
            assert await log.topics() == []

    run(body())


@pytest.mark.long
def test_a_lost_leader_is_replaced(kafka_cluster: KafkaCluster) -> None:
    async def body() -> None:
        settings = kafka_cluster.login().settings()
        async with await KafkaTransport.open(settings) as log:
            await log.create_topic("t")
            async with await KafkaTransport.open(settings) as other:
                following = asyncio.create_task(follow(other, "t", 200))
                appending = asyncio.create_task(append_all(log, 200))
                await other.wait("t", 20)
                lost = await asyncio.to_thread(kafka_cluster.kill_leader, "t")
                assert await appending == list(range(200))
                assert numbers(await following) == list(range(200))
                await log.create_topic("u")
                assert await other.end_offset("u") == 0
                await asyncio.to_thread(lost.start)
                assert await append_all(log, 8, first=200) == list(range(200, 208))
                assert len(await follow(other, "t", 208)) == 208

    run(body())
