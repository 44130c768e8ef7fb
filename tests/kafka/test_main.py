"""The broker to play with."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.kafka import finding
from tests.kafka.jars import NoKafkaError
from tests.source_tree import ROOT

_CONNECTS = """
import socket, sys
host, port = sys.argv[1].split(":")
socket.create_connection((host, int(port)), timeout=10).close()
print("connected to", sys.argv[1])
sys.exit(7)
"""


def started(arguments: list[str], environment: Mapping[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.kafka", *arguments],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Whose temporary files are seen here."""
    monkeypatch.delenv("SLSTREAM_KAFKA", raising=False)
    return {**os.environ, "TMPDIR": str(tmp_path)}


def require_broker() -> None:
    try:
        finding.maker()
    except NoKafkaError as error:
        finding.no_kafka(error)


def test_serves_until_interrupted(environment: dict[str, str], tmp_path: Path) -> None:
    require_broker()
    with started([], environment) as process:
        assert process.stdout is not None
        assert "serves at 127.0.0.1:" in process.stdout.readline()
        program, verb, *_ = process.stdout.readline().split()
        assert (verb, (ROOT / program).is_file()) == ("run", True)
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
    assert not list(tmp_path.iterdir())


def test_runs_a_command_and_ends_as_it_does(environment: dict[str, str], tmp_path: Path) -> None:
    require_broker()
    with started([sys.executable, "-c", _CONNECTS, "{address}"], environment) as process:
        said, _ = process.communicate(timeout=40)
    assert said.startswith("connected to 127.0.0.1:")
    assert process.returncode == 7
    assert not list(tmp_path.iterdir())


def test_runs_a_command_on_the_given_broker(environment: dict[str, str]) -> None:
    given = environment | {"SLSTREAM_KAFKA": "broker.example:9092"}
    with started(["echo", "kafka://{address}"], given) as process:
        said, _ = process.communicate(timeout=40)
    assert (said, process.returncode) == ("kafka://broker.example:9092\n", 0)


def test_says_why_there_is_none(environment: dict[str, str], tmp_path: Path) -> None:
    bare = {name: value for name, value in environment.items() if name != "DOCKER_HOST"}
    with started([], bare | {"PATH": str(tmp_path)}) as process:
        said, _ = process.communicate(timeout=40)
    assert process.returncode == 1
    assert said.startswith("no Kafka broker: no Docker engine (")
    assert "install Java 17" in said
