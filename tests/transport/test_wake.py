from __future__ import annotations

import asyncio
import errno
import os
import select
import time
from pathlib import Path

import pytest

from slstream.errors import UnknownTopic
from slstream.testing.transport_log import peer
from slstream.transport.connect import embedded_url
from slstream.transport.contract import Record, TopicConfig
from slstream.transport.embedded import waiting
from slstream.transport.embedded.offsets import AppendRequest, PreparedRecord
from slstream.transport.embedded.transport import EmbeddedTransport
from slstream.transport.embedded.wake import (
    WakeListener,
    WakeSender,
    decode_ends,
    encode_ends,
)
from tests.transport.logs import open_log, run


def woken(listener: WakeListener) -> bool:
    return bool(select.select([listener.fileno()], [], [], 0)[0])


def test_all_but_oneself_are_woken(tmp_path: Path) -> None:
    one, two = WakeListener(tmp_path), WakeListener(tmp_path)
    sender = WakeSender(tmp_path)
    for _ in range(2):
        sender.wake_all({}, one.name)
        assert not woken(one)
        assert woken(two)
        assert two.receive() == {}
        assert not woken(two)
    three = WakeListener(tmp_path)
    sender.wake_all({}, None)
    assert woken(one)
    assert woken(three)
    for listener in (one, two, three):
        listener.close()
    assert list(tmp_path.iterdir()) == []
    sender.wake_all({}, None)
    sender.close()


def test_a_folder_that_cannot_be_listed_fails_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The writer's thread must live to tell that an append has been done."""

    def fail(_: int) -> list[str]:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    async def body() -> None:
        async with await open_log(tmp_path) as log:
            await log.create_topic("t")
            monkeypatch.setattr(os, "listdir", fail)
            assert await log.append("t", [Record(value=b"a")]) == 0

    run(body())


def test_a_full_queue_neither_blocks_nor_fails(tmp_path: Path) -> None:
    listener, sender = WakeListener(tmp_path), WakeSender(tmp_path)
    for _ in range(2000):
        sender.wake_all({}, None)
    while listener.receive() is not None:
        pass
    assert not woken(listener)
    sender.wake_all({7: 1 << 40, 8: 1}, None)
    assert listener.receive() == {7: 1 << 40, 8: 1}
    listener.close()
    sender.close()


def test_more_ends_than_a_datagram_names() -> None:
    assert decode_ends(encode_ends({i: i + 1 for i in range(64)})) == {i: i + 1 for i in range(64)}
    assert decode_ends(encode_ends({i: i + 1 for i in range(65)})) == {}
    assert decode_ends(b"odd") == {}


def append_unheard(log: EmbeddedTransport, partition: int) -> None:
    """Append as another process would, but wake nobody."""
    record = PreparedRecord(value=b"", key=None, headers=None, size=0)
    log._writer.append([AppendRequest(topic="t", partition=partition, records=[record])])


def test_an_append_before_the_socket_exists_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "FALLBACK_POLL_S", 30.0)

    async def body() -> None:
        async with await open_log(tmp_path) as log, await open_log(tmp_path) as other:
            await log.create_topic("t")
            listen = waiting.Waiters._listen

            def late(waiters: waiting.Waiters) -> None:
                append_unheard(log, 0)
                listen(waiters)

            monkeypatch.setattr(waiting.Waiters, "_listen", late)
            assert await other.wait("t", 0, timeout_s=5)

    run(body())


def test_a_topic_deleted_and_created_anew_ends_the_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "FALLBACK_POLL_S", 30.0)

    async def body() -> None:
        async with await open_log(tmp_path) as log, await open_log(tmp_path) as other:
            await log.create_topic("t")
            wait = asyncio.create_task(other.wait("t", 0, timeout_s=5))
            await asyncio.sleep(0.02)
            await asyncio.gather(
                log.delete_topic("t"), log.create_topic("t"), log.append("t", [Record(value=b"")])
            )
            with pytest.raises(UnknownTopic, match=r"t\[0\] was deleted while offset 0"):
                await wait

    run(body())


def test_a_flood_of_datagrams_hides_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The queue overflows with news of one partition while the loop is busy; another one grew."""
    monkeypatch.setattr(waiting, "FALLBACK_POLL_S", 30.0)

    async def body() -> None:
        async with await open_log(tmp_path) as log, await open_log(tmp_path) as other:
            await log.create_topic("t", TopicConfig(partitions=2))
            wait = asyncio.create_task(other.wait("t", 0, partition=1))
            await asyncio.sleep(0.02)
            sender = WakeSender(tmp_path / "wake")
            for _ in range(2000):
                sender.wake_all({1: 1}, None)
            append_unheard(log, 1)
            sender.wake_all({2: 1}, None)
            sender.close()
            assert await asyncio.wait_for(wait, 5)

    run(body())


def test_sockets_of_the_dead_are_removed(tmp_path: Path) -> None:
    listener, dead = WakeListener(tmp_path), WakeListener(tmp_path)
    dead._socket.close()
    (tmp_path / "not-a-socket.socket").write_bytes(b"")
    assert len(list(tmp_path.iterdir())) == 3
    sender = WakeSender(tmp_path)
    sender.wake_all({}, None)
    assert woken(listener)
    assert (tmp_path / listener.name).exists()
    assert not (tmp_path / dead.name).exists()
    listener.close()
    sender.close()


def test_paths_longer_than_a_socket_address(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 120) / ("y" * 120)

    async def body() -> None:
        async with await open_log(path) as log:
            await log.create_topic("t")
            wait = asyncio.create_task(log.wait("t", 0))
            async with peer("append_each", embedded_url(path), "t", 1, "a"):
                assert await wait

    run(body())


@pytest.mark.parametrize("lost", [False, True], ids=["datagram", "datagram lost"])
def test_waking_is_prompt_and_does_not_need_the_datagram(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lost: bool
) -> None:
    """The slow look is made slower, so that it cannot be what wakes in the first case."""
    monkeypatch.setattr(waiting, "FALLBACK_POLL_S", 0.5 if lost else 30.0)
    if lost:
        monkeypatch.setattr(WakeSender, "wake_all", lambda *_: None)

    async def body() -> None:
        async with await open_log(tmp_path) as log, await open_log(tmp_path) as other:
            await log.create_topic("t")
            for i in range(3):
                wait = asyncio.create_task(other.wait("t", i, timeout_s=10))
                await asyncio.sleep(0.02)
                began = time.monotonic()
                await log.append("t", [Record(value=b"")])
                assert await wait
                assert time.monotonic() - began < (3 if lost else 0.4)

    run(body())


def test_a_killed_waiter_leaves_nothing_that_hurts(tmp_path: Path) -> None:
    async def body() -> None:
        async with await open_log(tmp_path) as log:
            await log.create_topic("t")
            async with peer("read_when_there", embedded_url(tmp_path), "t", 100) as waiter:
                while not list((tmp_path / "wake").glob("*.socket")):  # noqa: ASYNC110 - a file
                    await asyncio.sleep(0.01)
                await waiter.kill()
            assert len(list((tmp_path / "wake").iterdir())) == 1
            await log.append("t", [Record(value=b"")])
            await log.append("t", [Record(value=b"")])
            assert list((tmp_path / "wake").iterdir()) == []

    run(body())
