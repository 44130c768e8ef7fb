"""The proxy, between plain sockets."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from tests.kafka.ports import LOCALHOST
from tests.kafka.proxy import Proxy

_S = 5


class Upstream:
    """A server that keeps what it is sent, and answers when the test says so."""

    def __init__(self) -> None:
        self._listening = socket.create_server((LOCALHOST, 0))
        self._listening.settimeout(_S)
        self.address = f"{LOCALHOST}:{self._listening.getsockname()[1]}"

    def accept(self) -> socket.socket:
        connection, _ = self._listening.accept()
        connection.settimeout(_S)
        return connection

    def close(self) -> None:
        self._listening.close()


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    server = Upstream()
    yield server
    server.close()


@pytest.fixture
def proxy(upstream: Upstream) -> Iterator[Proxy]:
    with Proxy(upstream.address) as started:
        yield started


def connect(proxy: Proxy) -> socket.socket:
    return socket.create_connection((LOCALHOST, proxy.port), timeout=_S)


def receive(source: socket.socket, count: int) -> bytes:
    found = b""
    while len(found) < count and (more := source.recv(count - len(found))):
        found += more
    return found


def is_cut(source: socket.socket) -> bool:
    try:
        return source.recv(1) == b""
    except ConnectionError:
        return True


def test_forwards_both_ways_and_counts(proxy: Proxy, upstream: Upstream) -> None:
    with connect(proxy) as client, upstream.accept() as server:
        client.sendall(b"x" * 300_000)
        assert len(receive(server, 300_000)) == 300_000
        server.sendall(b"answer")
        assert receive(client, 6) == b"answer"
        # What has arrived is counted a moment later.
        for _ in range(500):
            if proxy.passed["down"]:
                break
            time.sleep(0.01)
        assert proxy.passed == {"up": 300_000, "down": 6}
        assert (proxy.accepted, proxy.open_connections) == (1, 1)


def test_closes_a_client_when_nobody_is_upstream(proxy: Proxy, upstream: Upstream) -> None:
    upstream.close()
    with connect(proxy) as client:
        assert is_cut(client)
    proxy.upstream = None
    with connect(proxy) as client:
        assert is_cut(client)


def test_passes_on_that_either_side_closed(proxy: Proxy, upstream: Upstream) -> None:
    with connect(proxy) as client, upstream.accept() as server:
        server.sendall(b"bye")
        server.close()
        assert receive(client, 4) == b"bye"
    with connect(proxy) as client, upstream.accept() as server:
        client.close()
        assert is_cut(server)


def test_cuts_all_connections_and_takes_new_ones(proxy: Proxy, upstream: Upstream) -> None:
    with connect(proxy) as client, upstream.accept() as server:
        client.sendall(b"a")
        assert receive(server, 1) == b"a"
        proxy.cut()
        assert is_cut(client)
        assert is_cut(server)
    with connect(proxy) as client, upstream.accept() as server:
        client.sendall(b"b")
        assert receive(server, 1) == b"b"


def test_cuts_upstream_in_the_midst_once(proxy: Proxy, upstream: Upstream) -> None:
    with connect(proxy) as client, upstream.accept() as server:
        client.sendall(b"x" * 10)
        assert len(receive(server, 10)) == 10
        proxy.cut_after(100_001, "up")
        sender = threading.Thread(target=_send, args=(client, 200_000))
        sender.start()
        assert len(receive(server, 100_001)) == 100_001
        assert is_cut(server)
        sender.join()
        proxy.wait_until_cut(_S)
    with connect(proxy) as client, upstream.accept() as server:
        client.sendall(b"x" * 200_000)
        assert len(receive(server, 200_000)) == 200_000


def _send(client: socket.socket, count: int) -> None:
    with contextlib.suppress(ConnectionError):
        client.sendall(bytes(count))


def test_cuts_downstream_at_the_last_byte_too(proxy: Proxy, upstream: Upstream) -> None:
    proxy.cut_after(7, "down")
    with connect(proxy) as client, upstream.accept() as server:
        client.sendall(b"many bytes the other way")
        server.sendall(b"answers")
        assert receive(client, 8) == b"answers"
        assert is_cut(client)
        proxy.wait_until_cut(_S)


def test_counts_to_the_cut_for_each_connection(proxy: Proxy, upstream: Upstream) -> None:
    proxy.cut_after(10, "up")
    with connect(proxy) as one, upstream.accept() as first:
        with connect(proxy) as other, upstream.accept() as second:
            one.sendall(b"x" * 6)
            other.sendall(b"y" * 6)
            assert receive(first, 6) == b"x" * 6
            assert receive(second, 6) == b"y" * 6
            with pytest.raises(TimeoutError, match=r"none was within 0\.1 s"):
                proxy.wait_until_cut(0.1)
            other.sendall(b"y" * 6)
            assert receive(second, 6) == b"y" * 4
        one.sendall(b"x" * 6)
        assert receive(first, 6) == b"x" * 6


def test_stalls_a_direction_until_it_flows(proxy: Proxy, upstream: Upstream) -> None:
    with connect(proxy) as client, upstream.accept() as server:
        proxy.stall("down")
        client.sendall(b"a")
        assert receive(server, 1) == b"a"
        server.sendall(b"b")
        client.settimeout(0.1)
        with pytest.raises(TimeoutError):
            client.recv(1)
        client.settimeout(_S)
        proxy.flow()
        assert receive(client, 1) == b"b"


def test_cuts_stalled_connections(proxy: Proxy, upstream: Upstream) -> None:
    with connect(proxy) as client, upstream.accept() as server:
        proxy.stall()
        client.sendall(b"a")
        server.sendall(b"b")
        time.sleep(0.05)
        proxy.cut()
        assert is_cut(client)
        assert is_cut(server)
        proxy.flow()


def test_throttles(proxy: Proxy, upstream: Upstream) -> None:
    proxy.throttle(1_000_000)
    with connect(proxy) as client, upstream.accept() as server:
        began = time.monotonic()
        client.sendall(bytes(300_000))
        assert len(receive(server, 300_000)) == 300_000
        assert time.monotonic() - began > 0.2
