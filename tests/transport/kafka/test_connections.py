"""Connections end at once, also to a broker that says nothing."""

from __future__ import annotations

import gc
import socket
import ssl
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from slstream.errors import TransportError
from slstream.transport.kafka.settings import KafkaSettings
from slstream.transport.kafka.transport import KafkaTransport
from tests.kafka.certificates import Certificates
from tests.transport.kafka.logs import run


@contextmanager
def silent_broker(certificates: Certificates) -> Iterator[str]:
    """Greets whoever connects as TLS demands, and then says nothing and hears nothing."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.server)
    connections: list[socket.socket] = []

    def serve(listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                connections.append(context.wrap_socket(connection, server_side=True))

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,), daemon=True)
        thread.start()
        yield f"localhost:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(10)
    assert connections
    for connection in connections:
        connection.close()


def test_nothing_is_left_of_a_connection_that_never_got_an_answer(tmp_path: Path) -> None:
    certificates = Certificates.issue(tmp_path, [])
    with silent_broker(certificates) as address, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        settings = KafkaSettings.of(
            f"kafka://{address}",
            {
                "SLSTREAM_KAFKA_SECURITY_PROTOCOL": "SSL",
                "SLSTREAM_KAFKA_CA_FILE": str(certificates.authority),
            },
        )

        async def body() -> None:
            with pytest.raises(TransportError, match=f"open the log.*{address}"):
                await KafkaTransport.open(settings, stuck_s=1)

        run(body())
        gc.collect()
    assert [str(warning.message) for warning in caught] == []


def test_a_silent_name_server_does_not_hold_up_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    answered, original = threading.Event(), socket.getaddrinfo

    def getaddrinfo(host: Any, *more: Any, **options: Any) -> Any:
        if host != "broker.invalid":
            return original(host, *more, **options)
        answered.wait(30)
        raise socket.gaierror("no answer")

    async def body() -> None:
        with pytest.raises(TransportError, match=r"open the log.*broker\.invalid"):
            await KafkaTransport.open(
                KafkaSettings.of("kafka://broker.invalid:9092", {}), stuck_s=1
            )

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    began = time.monotonic()
    try:
        run(body())
        assert time.monotonic() - began < 20
    finally:
        answered.set()
