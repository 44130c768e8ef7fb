"""A Kafka broker as a process of its own, which a test may kill, freeze and start again."""

from __future__ import annotations

import base64
import contextlib
import os
import resource
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tests.kafka.jars import KafkaJars
from tests.kafka.ports import Port
from tests.kafka.settings import INDEX_BYTES, BrokerSettings, Node, scram_arguments

__all__ = ["Broker", "BrokerFailedError", "ClusterPlace", "ProcessBroker", "new_cluster_id"]

_START_S = 45
_STOP_S = 10
_FORMAT_S = 30
_LOG_TAIL = 3000

_STARTED = b"Kafka Server started"
"""A broker says so once its controller knows it and its listeners serve, in all versions used."""

_JVM = (
    "-Xmx512m",
    "-XX:+UseSerialGC",  # two cores, and small heaps: one thread collects them
    "-XX:-UsePerfData",  # it would leave a file behind when killed
    "-XX:-CreateCoredumpOnCrash",
)

_LOGGING = """\
rootLogger.level=info
rootLogger.appenderRef.only.ref=stdout
appender.only.type=Console
appender.only.name=stdout
appender.only.layout.type=PatternLayout
appender.only.layout.pattern=%d{ISO8601} %p %c{1}: %m%n%throwable{10}
"""

_WATCHDOG = """\
read -r _ && exit
kill -9 "$1"
for _ in 1 2 3 4 5 6 7 8 9 10; do
  kill -0 "$1" || break
  sleep 0.1
done
rm -rf "$2"
"""
"""Outlives the test process by a moment: the end of its input is that process's death."""


class BrokerFailedError(Exception):
    """A broker did not do what it was told; the text has the end of its log."""


class Broker(Protocol):
    """What tests do with a broker, wherever it runs.

    Every method returns when it is so, and may be called from any thread.
    """

    @property
    def address(self) -> str:
        """Where clients of the first listener reach it: ``host:port``, the same after a restart."""

    def start(self) -> None:
        """Start it, on the data it has, and wait until it serves clients."""

    def stop(self) -> None:
        """Shut it down in order; it can be started again."""

    def kill(self) -> None:
        """End it without a word (SIGKILL)."""

    def restart(self) -> None:
        """Kill it and start it on the same port and data."""

    def freeze(self) -> None:
        """Keep it from doing anything, its connections open (SIGSTOP)."""

    def thaw(self) -> None:
        """Let it go on."""

    def log(self) -> str:
        """All it has printed."""

    def close(self) -> None:
        """Be rid of it and of its data."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterPlace:
    """Which of a cluster's brokers one is."""

    cluster_id: str
    number: int
    """From 1."""
    controller_ports: Sequence[int]
    """Of all brokers, by number."""


class ProcessBroker:
    """A broker, and its controller, in one Java process; not started yet.

    Its folder under the system's temporary one is gone after `close`, and also when this process
    dies in whatever way: a watchdog then kills the broker and removes the folder.

    Args:
        jars: Which version, and the Java to run it with.
        settings: How it differs from a plain broker.
        advertised_port: Where clients of the first listener are told to reach it, for a proxy
            before it.
        cluster: Its place among others; by default it is alone.
        jvm: Further options for the JVM; the last one of a kind wins.
    """

    def __init__(
        self,
        jars: KafkaJars,
        settings: BrokerSettings | None = None,
        *,
        advertised_port: int | None = None,
        cluster: ClusterPlace | None = None,
        jvm: Sequence[str] = (),
    ) -> None:
        self.jars = jars
        self.settings = settings or BrokerSettings()
        self.folder = Path(tempfile.mkdtemp(prefix="slstream-kafka-"))
        self._jvm = tuple(jvm)
        self._ports = [Port() for _ in range(len(self.settings.listeners) + 1)]
        *listeners, internal = (port.number for port in self._ports)
        if cluster is None:
            controller = Port()
            self._ports.append(controller)
            cluster = ClusterPlace(
                cluster_id=new_cluster_id(), number=1, controller_ports=[controller.number]
            )
        self._addresses = {
            name: port.address
            for name, port in zip(self.settings.listeners, self._ports, strict=False)
        }
        self.cluster_id = cluster.cluster_id
        self.node = Node(
            number=cluster.number,
            ports=listeners,
            internal_port=internal,
            controller_ports=cluster.controller_ports,
            advertised_port=advertised_port,
            data=self.folder / "data",
        )
        self._process: subprocess.Popen[bytes] | None = None
        self._watchdog: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """Where the first listener listens: ``host:port``."""
        return self.address_of(self.settings.listeners[0])

    def address_of(self, listener: str) -> str:
        """Where a listener listens, by its security protocol."""
        return self._addresses[listener]

    @property
    def pid(self) -> int:
        """Of the running broker."""
        return self._running().pid

    @property
    def is_running(self) -> bool:
        """Frozen counts."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start it, on the data it has, and wait until it serves clients.

        Raises:
            BrokerFailedError: It ended, or did not serve in time.
        """
        if self.is_running:
            raise BrokerFailedError("expected a broker that is down, found it running")
        self._format()
        with self._log_file.open("ab") as log:
            printed = log.tell()
            self._process = subprocess.Popen(
                self._command("kafka.Kafka", [str(self._properties_file)]),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                start_new_session=True,  # Ctrl-C is for the tests, which then stop it in order
            )
        self._watchdog = subprocess.Popen(
            ["sh", "-c", _WATCHDOG, "watchdog", str(self._process.pid), str(self.folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            self._wait_until_started(self._process, printed)
        except BaseException:
            self.kill()
            raise

    def stop(self) -> None:
        """Shut it down in order (SIGTERM, and SIGKILL if that takes long); a frozen one thaws."""
        if self.is_running:
            self.thaw()
            self._running().terminate()
            try:
                self._running().wait(_STOP_S)
            except subprocess.TimeoutExpired:
                self._running().kill()
        self._reap()

    def kill(self) -> None:
        """End it without a word (SIGKILL), if it runs."""
        if self.is_running:
            self._running().kill()
        self._reap()

    def restart(self) -> None:
        """Kill it and start it on the same ports and data."""
        self.kill()
        self.start()

    def freeze(self) -> None:
        """Keep it from doing anything, its connections open (SIGSTOP).

        Returns when each of its threads has stopped: the signal alone does not wait for them, and
        one that still runs answers a request.

        Raises:
            BrokerFailedError: it has not stopped within some seconds.
        """
        self._running().send_signal(signal.SIGSTOP)
        deadline = time.monotonic() + _STOP_S
        while not _is_stopped(self.pid):
            if time.monotonic() > deadline:
                raise BrokerFailedError(f"broker {self.pid} still runs {_STOP_S} s after SIGSTOP")
            time.sleep(0.001)

    def thaw(self) -> None:
        """Let it go on (SIGCONT)."""
        self._running().send_signal(signal.SIGCONT)

    def fill_disk(self, room: int) -> None:
        """Let no log of the running broker grow further than ``room`` beyond the largest one.

        (Or beyond `INDEX_BYTES`, so that new partitions can be made.)

        By the kernel's limit on the size of a process's files, which needs neither rights nor a
        file system of one's own. A write beyond it fails with "File too large" where a full disk
        says "No space left on device"; a broker treats both alike. It takes the disk where that
        happens out of service, until it is started again (which also ends the limit); without
        another disk it ends at once, with status 1.
        """
        logs = [path.stat().st_size for path in self.node.data.rglob("*.log")]
        limit = max(INDEX_BYTES, *logs) + room
        resource.prlimit(self.pid, resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))

    def log(self) -> str:
        """All it has printed, over all its starts."""
        return self._log_file.read_text(errors="replace") if self._log_file.exists() else ""

    def close(self) -> None:
        """Kill it, and remove all it wrote."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)
        for port in self._ports:
            port.close()

    @property
    def _log_file(self) -> Path:
        return self.folder / "broker.log"

    @property
    def _properties_file(self) -> Path:
        return self.folder / "server.properties"

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise BrokerFailedError("expected a broker that was started, found one that was not")
        return self._process

    def _reap(self) -> None:
        for process in (self._process, self._watchdog):
            if process is None:
                continue
            if process.stdin is not None:
                process.communicate(b"done\n")
            process.wait(_STOP_S)
        self._process = self._watchdog = None

    def _command(self, main_class: str, arguments: Sequence[str]) -> list[str]:
        logging = f"-Dlog4j2.configurationFile={self.folder / 'log4j2.properties'}"
        # Compression libraries unpack themselves there.
        scratch = f"-Djava.io.tmpdir={self.folder}"
        options = [*_JVM, logging, scratch, *self._jvm]
        return self.jars.command(main_class, arguments, options=options)

    def _format(self) -> None:
        if self.node.data.exists():
            return
        Path(self.folder, "log4j2.properties").write_text(_LOGGING)
        self._properties_file.write_text(self.node.properties(self.settings))
        arguments = ["format", "-t", self.cluster_id, "-c", str(self._properties_file)]
        arguments += scram_arguments(self.settings)
        done = subprocess.run(
            self._command("kafka.tools.StorageTool", arguments),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=_FORMAT_S,
        )
        if done.returncode:
            said = (done.stdout + done.stderr)[-_LOG_TAIL:]
            raise BrokerFailedError(f"a broker's storage could not be formatted: {said}")

    def _wait_until_started(self, process: subprocess.Popen[bytes], printed: int) -> None:
        deadline = time.monotonic() + _START_S
        with self._log_file.open("rb") as log:
            log.seek(printed)
            text = b""
            while _STARTED not in text:
                text = text[-len(_STARTED) :] + log.read()
                if _STARTED in text:
                    return
                if process.poll() is not None:
                    raise self._failed(f"ended with status {process.returncode} while starting")
                if time.monotonic() > deadline:
                    raise self._failed(f"did not serve within {_START_S} s")
                time.sleep(0.02)

    def _failed(self, what: str) -> BrokerFailedError:
        return BrokerFailedError(
            f"the broker at {self.address} {what}; the end of its log:\n{self.log()[-_LOG_TAIL:]}"
        )


def _is_stopped(pid: int) -> bool:
    """Whether none of a process's threads runs (proc_pid_stat(5): the state follows the name)."""
    states = []
    for thread in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
            states.append((thread / "stat").read_text().rpartition(")")[2].split()[0])
    return all(state in "TtZX" for state in states)


def new_cluster_id() -> str:
    """Sixteen random bytes, as Kafka writes them."""
    while (text := base64.urlsafe_b64encode(os.urandom(16)).decode().rstrip("=")).startswith("-"):
        pass  # taken for an option on a command line
    return text
