"""The demo's broker with its own script and settings; only places and ports are others."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from aiokafka.errors import KafkaError

from tests.docker.compose_file import FOLDER, properties, services
from tests.kafka import finding
from tests.kafka.clients import create_topic
from tests.kafka.jars import NoKafkaError
from tests.kafka.login import Login
from tests.kafka.ports import Port

START_S = 40
PASSWORDS = {"admin": "admin-Pa_ss-0", "bob": "-bob's=Pa_ss"}
TOOLS = {"kafka-storage.sh": "kafka.tools.StorageTool", "kafka-server-start.sh": "kafka.Kafka"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stands for the container's root."""
    return tmp_path_factory.mktemp("container")


@pytest.fixture(scope="module")
def ports() -> Iterator[dict[str, int]]:
    """Those of the settings, and what stands for them here."""
    with ExitStack() as held:
        yield {name: held.enter_context(Port()).number for name in ("9092", "9093", "9094")}


@pytest.fixture(scope="module")
def script(folder: Path, ports: dict[str, int]) -> Path:
    """A copy of start.sh beside tools with the names of the image's."""
    try:
        jars = finding.process_jars()
    except NoKafkaError as error:
        finding.no_kafka(error)
    for part in ("bin", "keys", "config"):
        (folder / part).mkdir()
    for tool, main_class in TOOLS.items():
        options = ["-Xmx384m", "-Dlog4j2.level=INFO"]
        command = " ".join(jars.command(main_class, [], options=options))
        (folder / "bin" / tool).write_text(f'#!/bin/sh\nexec {command} "$@"\n')
        (folder / "bin" / tool).chmod(0o700)
    for user, password in PASSWORDS.items():
        (folder / "keys" / f"{user}.password").write_text(password)
    text = (FOLDER / "broker" / "server.properties").read_text()
    log = properties(text)["log.dirs"]
    text = text.replace(log, str(folder / "data")).replace("//broker:", "//localhost:")
    text = re.sub(r"\b909[234]\b", lambda found: str(ports[found[0]]), text)
    (folder / "config" / "server.properties").write_text(text)
    text = (FOLDER / "broker" / "start.sh").read_text()
    for given, place in (("/opt/kafka/bin", "bin"), ("/keys", "keys"), ("/etc/slstream", "config")):
        assert f"={given}" in text
        text = text.replace(f"={given}", f"={folder / place}")
    path = folder / "start.sh"
    path.write_text(text)
    return path


@pytest.fixture
def broker(script: Path, ports: dict[str, int]) -> Iterator[str]:
    """Its address. It is started anew for each test, on the same data."""
    log = script.with_suffix(".log")
    with log.open("ab") as output:
        printed = output.tell()
        process = subprocess.Popen(
            ["bash", str(script)],
            stdout=output,
            stderr=output,
            env={
                **os.environ,
                "CLUSTER_ID": services()["broker"].settings["environment"]["CLUSTER_ID"],
            },
        )
    try:
        deadline = time.monotonic() + START_S
        while b"Kafka Server started" not in log.read_bytes()[printed:]:
            assert process.poll() is None, log.read_text()[-3000:]
            assert time.monotonic() < deadline, log.read_text()[-3000:]
            time.sleep(0.05)
        yield f"localhost:{ports['9092']}"
    finally:
        process.terminate()
        process.wait(20)


def create(address: str, user: str, password: str, topic: str) -> None:
    login = Login.to(address, "SASL_PLAINTEXT", user=user, password=password)
    asyncio.run(create_topic(login, topic))


def test_the_operator_may_what_a_party_may_not(broker: str) -> None:
    create(broker, "admin", PASSWORDS["admin"], "of-the-operator")
    with pytest.raises(KafkaError, match="AuthorizationFailed"):
        create(broker, "bob", PASSWORDS["bob"], "of-bob")


def test_a_restart_keeps_data_and_logins_and_no_other_password_will_do(
    broker: str, script: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(KafkaError, match="AlreadyExists"):
        create(broker, "admin", PASSWORDS["admin"], "of-the-operator")
    # The transport, where a test has used it in this process, has silenced it.
    caplog.set_level(logging.INFO, logger="aiokafka")
    with pytest.raises(KafkaError):
        create(broker, "admin", PASSWORDS["bob"], "of-mallory")
    assert "SaslAuthenticationFailed" in caplog.text
    said = script.with_suffix(".log").read_text()
    assert not re.search("|".join(map(re.escape, PASSWORDS.values())), said)
    assert "storedKey" not in said
