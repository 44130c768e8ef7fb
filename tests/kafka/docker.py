"""A Kafka broker in a container, for machines with a Docker engine.

testcontainers' own Kafka class runs the scripts of another vendor's image; this is the recipe for
Apache's. It knows a plain listener only: a broker with users, certificates or limits is a process.
Where there is no Docker engine, this module is checked by its types alone.
"""

from __future__ import annotations

import functools
import os
import time
from pathlib import Path

from tests.kafka.broker import BrokerFailedError
from tests.kafka.jars import VERSION
from tests.kafka.ports import LOCALHOST, Port
from tests.kafka.settings import SMALL

__all__ = ["ContainerBroker", "why_not"]

_IMAGE = f"apache/kafka:{VERSION}"
_STARTED = b"Kafka Server started"
_START_S = 60
_INSIDE = 9092
_CONTROLLER = 9093


@functools.cache
def why_not() -> str | None:
    """What keeps a container from being run here; asks the engine, if there may be one."""
    if "DOCKER_HOST" not in os.environ and not Path("/var/run/docker.sock").exists():
        return "DOCKER_HOST is not set, and there is no /var/run/docker.sock"
    # Here and below, late: most runs of the tests have no use for these libraries.
    from docker.client import from_env
    from docker.errors import DockerException

    try:
        client = from_env(timeout=5)
        client.ping()
        client.close()
    except (DockerException, OSError) as error:
        return str(error)
    return None


class ContainerBroker:
    """A `tests.kafka.broker.Broker` in a container, not started yet.

    testcontainers' reaper removes the container when this process dies.
    """

    def __init__(self) -> None:
        from testcontainers.core.container import DockerContainer

        self._port = Port()
        settings = SMALL | {
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.voters": f"1@localhost:{_CONTROLLER}",
            "listeners": f"PLAINTEXT://:{_INSIDE},CONTROLLER://:{_CONTROLLER}",
            "advertised.listeners": f"PLAINTEXT://{self.address}",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "controller.listener.names": "CONTROLLER",
            "inter.broker.listener.name": "PLAINTEXT",
        }
        self._container = DockerContainer(_IMAGE).with_bind_ports(_INSIDE, self._port.number)
        for name, value in settings.items():
            self._container.with_env(f"KAFKA_{name.replace('.', '_').upper()}", value)
        self._created = False

    @property
    def address(self) -> str:
        """Where clients reach it: ``host:port``."""
        return f"{LOCALHOST}:{self._port.number}"

    def start(self) -> None:
        """Start it, on the data it has, and wait until it serves clients.

        Raises:
            BrokerFailedError: It did not serve in time.
        """
        before = self.log().encode().count(_STARTED)
        if self._created:
            self._container.get_wrapped_container().start()
        else:
            self._container.start()
            self._created = True
        deadline = time.monotonic() + _START_S
        while self.log().encode().count(_STARTED) == before:
            if time.monotonic() > deadline:
                raise BrokerFailedError(
                    f"the container of {_IMAGE} did not serve within {_START_S} s: {self.log()}"
                )
            time.sleep(0.2)

    def stop(self) -> None:
        """Shut it down in order; it can be started again."""
        self._container.get_wrapped_container().stop(timeout=10)

    def kill(self) -> None:
        """End it without a word."""
        self._container.get_wrapped_container().kill()

    def restart(self) -> None:
        """Kill it and start it on the same port and data."""
        self.kill()
        self.start()

    def freeze(self) -> None:
        """Keep it from doing anything, its connections open."""
        self._container.get_wrapped_container().pause()

    def thaw(self) -> None:
        """Let it go on."""
        self._container.get_wrapped_container().unpause()

    def log(self) -> str:
        """All it has printed, over all its starts."""
        if not self._created:
            return ""
        printed, errors = self._container.get_logs()
        return (printed + errors).decode(errors="replace")

    def close(self) -> None:
        """Remove it with its data."""
        self._container.stop()
        self._port.close()
