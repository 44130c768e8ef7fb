"""A broker that several processes share, some of which are killed."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.kafka import finding
from tests.kafka.jars import NoKafkaError
from tests.kafka.shared import plain_kafka
from tests.source_tree import ROOT

_USER = """
import sys
from tests.kafka.shared import plain_kafka
with plain_kafka(sys.argv[1]) as address:
    print(address, flush=True)
    sys.stdin.read()
"""

_GONE_S = 10


@pytest.fixture(autouse=True)
def _needs_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SLSTREAM_KAFKA", raising=False)
    try:
        finding.maker()
    except NoKafkaError as error:
        finding.no_kafka(error)


@contextmanager
def user(run: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A process that uses a run's broker until its input ends: it, and the address."""
    process = subprocess.Popen(
        [sys.executable, "-c", _USER, run],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout is not None
        yield process, process.stdout.readline().strip()


@pytest.mark.long
def test_lives_as_long_as_somebody_uses_it() -> None:
    run = f"test-{os.getpid()}-{uuid.uuid4().hex}"
    folder = Path(tempfile.gettempdir(), f"slstream-kafka-{run}-plain")
    with user(run) as (first, address), user(run) as (_, other):
        assert other == address  # both started it, and there is one
        first.send_signal(signal.SIGKILL)
        first.wait()
        with plain_kafka(run) as mine:
            assert mine == address
        time.sleep(0.3)  # for a keeper that would leave too early
        with plain_kafka(run) as mine:
            assert mine == address
    deadline = time.monotonic() + _GONE_S
    while folder.exists():
        assert time.monotonic() < deadline, f"{folder} is still there"
        time.sleep(0.05)


@pytest.mark.long
def test_is_started_anew_when_its_keeper_was_killed() -> None:
    run = f"test-{os.getpid()}-{uuid.uuid4().hex}"
    with plain_kafka(run) as address:
        _kill_keeper(run)
        _wait_until_gone(address)
        with plain_kafka(run) as other:
            assert other != address
            _connect(other)


def _kill_keeper(run: str) -> None:
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            arguments = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if b"tests.kafka.shared" in arguments and run.encode() in b" ".join(arguments):
            os.kill(int(path.parent.name), signal.SIGKILL)
            return
    raise AssertionError(f"no keeper of {run}")


def _connect(address: str) -> None:
    host, port = address.split(":")
    socket.create_connection((host, int(port)), timeout=_GONE_S).close()


def _wait_until_gone(address: str) -> None:
    deadline = time.monotonic() + _GONE_S
    with pytest.raises(ConnectionRefusedError):  # noqa: PT012 - one of these attempts
        while time.monotonic() < deadline:
            _connect(address)
            time.sleep(0.02)
