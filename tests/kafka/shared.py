"""Brokers that all processes of one pytest run share.

A keeper process of its own starts such a broker for the first who asks, and ends it once nobody
needs it any more. Who needs it holds a lock on a file, which the kernel frees when its process
ends in whatever way: no count can go wrong when a test process is killed.

``python -m tests.kafka.shared FOLDER KIND`` is that keeper.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from tests.kafka import finding
from tests.kafka.broker import Broker, BrokerFailedError, ProcessBroker
from tests.kafka.certificates import Certificates
from tests.kafka.jars import alone
from tests.kafka.login import Login
from tests.kafka.settings import ADMIN, BrokerSettings
from tests.source_tree import ROOT

__all__ = ["USERS", "SecuredKafka", "plain_kafka", "secured_kafka"]

USERS = (ADMIN, "alice", "bob", "carol", "mallory")
"""Who has a password and a certificate on the secured broker; only the first has any right."""

_START_S = 50
_SECURED = ("SASL_SSL", "SSL", "SASL_PLAINTEXT")


@dataclass(frozen=True, slots=True, kw_only=True)
class SecuredKafka:
    """A broker with an authorizer, and one listener for each way to say who one is."""

    sasl_ssl: str
    """``host:port`` for SASL (SCRAM-SHA-512, SCRAM-SHA-256, PLAIN) over TLS."""
    ssl: str
    """``host:port`` for TLS with a client's certificate, whose common name is the user."""
    sasl_plaintext: str
    """``host:port`` for SASL without TLS."""
    certificates: Certificates
    passwords: dict[str, str] = field(repr=False)
    """Of `USERS`."""

    def login(self, user: str, listener: str = "SASL_SSL") -> Login:
        """How one of `USERS` reaches it, through a listener named by its security protocol."""
        return Login.to(
            {"SASL_SSL": self.sasl_ssl, "SSL": self.ssl, "SASL_PLAINTEXT": self.sasl_plaintext}[
                listener
            ],
            listener,
            user=user,
            password=self.passwords[user],
            certificates=self.certificates,
        )


@contextmanager
def plain_kafka(run: str) -> Iterator[str]:
    """The shared broker of a pytest run that asks nobody's name: its ``host:port``.

    Raises:
        NoKafkaError: No broker can be had.
        BrokerFailedError: It did not start.
    """
    finding.maker()  # in this process, which can tell why not
    with _joined(run, "plain") as found:
        yield found["address"]


@contextmanager
def secured_kafka(run: str) -> Iterator[SecuredKafka]:
    """The shared broker of a pytest run that wants to know who one is.

    Raises:
        NoKafkaError: No broker can be had.
        BrokerFailedError: It did not start.
    """
    finding.process_jars()
    with _joined(run, "secured") as found:
        yield SecuredKafka(
            sasl_ssl=found["SASL_SSL"],
            ssl=found["SSL"],
            sasl_plaintext=found["SASL_PLAINTEXT"],
            certificates=Certificates(folder=Path(found["certificates"])),
            passwords=found["passwords"],
        )


@contextmanager
def _joined(run: str, kind: str) -> Iterator[dict[str, Any]]:
    folder = Path(tempfile.gettempdir(), f"slstream-kafka-{run}-{kind}")
    with _membership(folder):
        with alone(folder / "start.lock"):
            found = _found(folder) or _started(folder, kind)
        yield found


@contextmanager
def _membership(folder: Path) -> Iterator[None]:
    """Keep the keeper from leaving; the folder exists meanwhile."""
    file = _member(folder)
    while file is None:
        file = _member(folder)
    with file:
        yield


def _member(folder: Path) -> IO[str] | None:
    folder.mkdir(mode=0o700, exist_ok=True)
    path = folder / "users.lock"
    try:
        file = path.open("a")
    except FileNotFoundError:
        return None  # a keeper has just removed the folder
    fcntl.flock(file, fcntl.LOCK_SH)
    try:
        if os.path.samestat(os.fstat(file.fileno()), path.stat()):
            return file
    except FileNotFoundError:
        pass
    file.close()
    return None


def _found(folder: Path) -> dict[str, Any] | None:
    """What the keeper wrote, if its broker can be reached."""
    try:
        found: dict[str, Any] = json.loads((folder / "ready.json").read_text())
        host, port = found["address"].split(":")
        socket.create_connection((host, int(port)), timeout=5).close()
    except OSError:
        return None
    return found


def _started(folder: Path, kind: str) -> dict[str, Any]:
    for name in ("ready.json", "failed.txt"):
        (folder / name).unlink(missing_ok=True)
    with (folder / "keeper.log").open("wb") as log:
        # Through a shell that ends at once: the keeper outlives this process, and is not its child.
        subprocess.run(
            ["sh", "-c", '"$@" &', "sh", sys.executable, "-m", __name__, str(folder), kind],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            check=True,
        )
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline:
        if (found := _found(folder)) is not None:
            return found
        if (folder / "failed.txt").exists():
            break
        time.sleep(0.02)
    said = (folder / "keeper.log").read_text(errors="replace")[-3000:]
    raise BrokerFailedError(f"the shared broker did not start within {_START_S} s: {said}")


def _plain(_folder: Path) -> tuple[Broker, dict[str, Any]]:
    broker = finding.maker()()
    return broker, {"address": broker.address}


def _secured(folder: Path) -> tuple[Broker, dict[str, Any]]:
    certificates = Certificates.issue(folder / "certificates", USERS)
    passwords = {user: secrets.token_urlsafe(12) for user in USERS}
    settings = BrokerSettings(
        listeners=_SECURED,
        users=passwords,
        certificates=certificates,
        client_certificates=True,
        authorizer=True,
    )
    broker = ProcessBroker(finding.process_jars(), settings)
    told: dict[str, Any] = {name: broker.address_of(name) for name in _SECURED}
    told |= {"address": broker.address, "passwords": passwords}
    return broker, told | {"certificates": str(certificates.folder)}


_KINDS: dict[str, Callable[[Path], tuple[Broker, dict[str, Any]]]] = {
    "plain": _plain,
    "secured": _secured,
}


def _keep(folder: Path, kind: str) -> None:
    broker, told = _KINDS[kind](folder)
    try:
        broker.start()
        written = folder / "ready.json.new"
        written.write_text(json.dumps(told))
        written.replace(folder / "ready.json")
        with (folder / "users.lock").open("a") as users:
            fcntl.flock(users, fcntl.LOCK_EX)  # granted when the last one has gone
            # Who comes now waits for the lock, and then finds the folder gone.
            broker.close()
            shutil.rmtree(folder)
    finally:
        broker.close()


def _main(folder: Path, kind: str) -> None:
    try:
        _keep(folder, kind)
    except BaseException:
        traceback.print_exc()
        if folder.exists():
            (folder / "failed.txt").touch()
        raise


if __name__ == "__main__":
    _main(Path(sys.argv[1]), sys.argv[2])
