"""A broker as a process: what it keeps, and what is left of it."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from tests.kafka import finding
from tests.kafka.broker import Broker, BrokerFailedError
from tests.kafka.clients import consume, create_topic, produce, producer
from tests.kafka.handles import StartKafka
from tests.kafka.jars import OLDER_VERSION, NoKafkaError
from tests.kafka.login import Login
from tests.kafka.settings import BrokerSettings
from tests.source_tree import ROOT

pytest_plugins = ["tests.kafka.fixtures"]

_GONE_S = 10

_VICTIM = """
import sys, time
from tests.kafka.broker import ProcessBroker
from tests.kafka.finding import process_jars
broker = ProcessBroker(process_jars())
broker.start()
if sys.argv[1] == "frozen":
    broker.freeze()
print(broker.pid, broker.folder, flush=True)
time.sleep(60)
"""


@pytest.mark.long
def test_keeps_its_records_and_its_address_when_killed(own_kafka: Broker) -> None:
    address = own_kafka.address
    login = Login.to(address)

    async def body() -> None:
        await create_topic(login, "t")
        await produce(login, "t", [b"before"])
        await asyncio.to_thread(own_kafka.restart)
        await produce(login, "t", [b"after"])
        assert await consume(login, "t", 2) == [b"before", b"after"]

    asyncio.run(body())
    assert own_kafka.address == address


def test_keeps_its_clients_waiting_while_frozen(own_kafka: Broker) -> None:
    login = Login.to(own_kafka.address)

    async def body() -> None:
        await create_topic(login, "t")
        async with producer(login) as client:
            await client.send_and_wait("t", b"warm", partition=0)
            own_kafka.freeze()
            sending = asyncio.create_task(client.send_and_wait("t", b"late", partition=0))
            await asyncio.sleep(0.5)
            assert not sending.done()
            own_kafka.thaw()
            await asyncio.wait_for(sending, 20)
        assert await consume(login, "t", 2) == [b"warm", b"late"]

    asyncio.run(body())


@pytest.mark.long
def test_stops_in_order_and_starts_again(start_kafka: StartKafka) -> None:
    broker = start_kafka()
    broker.freeze()
    broker.stop()
    assert not broker.is_running
    assert "shutdown completed" in broker.log().lower()
    broker.start()
    with pytest.raises(BrokerFailedError, match="expected a broker that is down"):
        broker.start()
    broker.close()
    broker.close()
    assert not broker.folder.exists()


def test_one_that_cannot_start_tells_why(start_kafka: StartKafka) -> None:
    with pytest.raises(BrokerFailedError, match="could not be formatted") as caught:
        start_kafka(BrokerSettings(properties={"num.io.threads": "none"}))
    assert "num.io.threads" in str(caught.value)
    with pytest.raises(BrokerFailedError, match="ended with status 1 while starting") as caught:
        start_kafka(BrokerSettings(properties={"authorizer.class.name": "no.such.Authorizer"}))
    assert "no.such.Authorizer" in str(caught.value)


@pytest.mark.long
def test_loses_a_full_disk_alone_if_it_has_another(start_kafka: StartKafka) -> None:
    broker = start_kafka(BrokerSettings(disks=2))
    login = Login.to(broker.address)

    async def body() -> None:
        await create_topic(login, "t")
        await produce(login, "t", [b"kept"])
        broker.fill_disk(100_000)
        with pytest.raises(KafkaError):
            await _send_until_refused(login)
        await create_topic(login, "other")
        assert broker.is_running
        assert "File too large" in broker.log()
        await asyncio.to_thread(broker.restart)
        assert await consume(login, "t", 1) == [b"kept"]

    asyncio.run(body())


async def _send_until_refused(login: Login) -> None:
    options = login.settings().client_options()
    async with AIOKafkaProducer(**options, request_timeout_ms=1000) as client:
        for _ in range(20):
            await client.send_and_wait("t", bytes(50_000), partition=0)


@pytest.mark.long
def test_ends_when_its_only_disk_is_full(start_kafka: StartKafka) -> None:
    broker = start_kafka()
    login = Login.to(broker.address)

    async def body() -> None:
        await create_topic(login, "t")
        broker.fill_disk(100_000)
        with pytest.raises(KafkaError):
            await _send_until_refused(login)

    asyncio.run(body())
    deadline = time.monotonic() + _GONE_S
    while broker.is_running:
        assert time.monotonic() < deadline, "the broker goes on without a disk"
        time.sleep(0.05)


@pytest.mark.long
@pytest.mark.parametrize("state", ["running", "frozen"])
def test_is_gone_with_its_folder_when_its_test_is_killed(state: str) -> None:
    try:
        finding.process_jars()
    except NoKafkaError as error:
        finding.no_kafka(error)
    victim = subprocess.Popen(
        [sys.executable, "-c", _VICTIM, state], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    with victim:
        assert victim.stdout is not None
        pid, folder = victim.stdout.readline().split()
        assert Path(folder).is_dir()
        assert _is_alive(int(pid))
        victim.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + _GONE_S
    while _is_alive(int(pid)) or Path(folder).exists():
        assert time.monotonic() < deadline, f"broker {pid} or its folder {folder} is still there"
        time.sleep(0.05)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (ProcessLookupError, FileNotFoundError):
        return False
    return state != "Z"  # dead, and only not collected by its new parent


@pytest.mark.long
def test_older_version_keeps_its_records_when_killed(start_kafka: StartKafka) -> None:
    test_keeps_its_records_and_its_address_when_killed(start_kafka(version=OLDER_VERSION))
