"""A TCP proxy between clients and a broker, which cuts, stalls and slows their connections.

Clients of Kafka dial the address that a broker advertises, so a broker behind a proxy has to be
started with ``advertised_port=proxy.port``.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Literal, Self

from tests.kafka.ports import LOCALHOST, Port

__all__ = ["Direction", "Proxy"]

Direction = Literal["up", "down"]
"""From the client to the broker, or back."""

_CHUNK = 64 * 1024
_ANSWER_S = 10


@dataclass(eq=False)
class _Connection:
    """One client's, and the one to the broker that serves it."""

    client: asyncio.StreamWriter
    broker: asyncio.StreamWriter
    passed: dict[Direction, int] = field(default_factory=lambda: {"up": 0, "down": 0})
    pumps: list[asyncio.Task[None]] = field(default_factory=list)

    def cut(self) -> None:
        for pump in self.pumps:
            pump.cancel()
        self.client.transport.abort()
        self.broker.transport.abort()


class Proxy:
    """Forwards connections until told otherwise; a context manager that runs in a thread.

    Its methods may be called from any thread, and have taken effect when they return.

    Args:
        upstream: The broker, ``host:port``; may be given later, as the broker wants to know the
            proxy's port first. Without one, connections are closed.
    """

    def __init__(self, upstream: str | None = None) -> None:
        self.upstream = upstream
        self.accepted = 0
        """Connections so far."""
        self.passed: dict[Direction, int] = {"up": 0, "down": 0}
        """Bytes forwarded so far."""
        self._port = Port()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._server: asyncio.Server | None = None
        self._connections: set[_Connection] = set()
        self._flowing: dict[Direction, asyncio.Event] = {}
        self._bytes_per_s: float | None = None
        self._trap: tuple[Direction, int, dict[_Connection, int]] | None = None
        self._sprung = threading.Event()

    @property
    def port(self) -> int:
        """What a broker behind it advertises."""
        return self._port.number

    @property
    def address(self) -> str:
        """What clients dial: ``host:port``."""
        return self._port.address

    @property
    def open_connections(self) -> int:
        """How many there are now."""
        return len(self._connections)

    def cut(self) -> None:
        """Reset all connections; new ones are accepted."""

        def cut() -> None:
            for connection in self._connections:
                connection.cut()

        self._do(cut)

    def cut_after(self, count: int, direction: Direction) -> None:
        """Cut the first connection that forwards so many more bytes, exactly there, once.

        Counted for each connection by itself: a count larger than a client's small requests, and
        smaller than a record, cuts in the midst of that record.
        """

        def arm() -> None:
            self._sprung.clear()
            already = {each: each.passed[direction] for each in self._connections}
            self._trap = (direction, count, already)

        self._do(arm)

    def wait_until_cut(self, timeout_s: float = 30) -> None:
        """Until `cut_after` has cut.

        Raises:
            TimeoutError: No connection forwarded so much.
        """
        if not self._sprung.wait(timeout_s):
            raise TimeoutError(f"expected a connection to be cut, none was within {timeout_s} s")

    def stall(self, *directions: Direction) -> None:
        """Hold back all bytes of these directions, by default of both; connections stay open."""

        def stall() -> None:
            for direction in directions or self._flowing:
                self._flowing[direction].clear()

        self._do(stall)

    def flow(self) -> None:
        """End `stall`: what was held back goes on, where its connection is still there."""

        def flow() -> None:
            for event in self._flowing.values():
                event.set()

        self._do(flow)

    def throttle(self, bytes_per_s: float | None) -> None:
        """Forward no faster than that, in each direction of each connection; None: as it comes."""
        self._bytes_per_s = bytes_per_s

    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._open(), self._loop).result(_ANSWER_S)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(_ANSWER_S)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_ANSWER_S)
        self._loop.close()
        self._port.close()

    def _do(self, action: Callable[[], None]) -> None:
        async def body() -> None:
            action()

        asyncio.run_coroutine_threadsafe(body(), self._loop).result(_ANSWER_S)

    async def _open(self) -> None:
        for direction in ("up", "down"):
            self._flowing[direction] = asyncio.Event()
            self._flowing[direction].set()
        self._server = await asyncio.start_server(self._serve, LOCALHOST, self.port)
        for listener in self._server.sockets:
            # Of connections as well: what is not forwarded yet is to wait at the client.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _CHUNK)

    async def _close(self) -> None:
        if self._server is not None:
            self._server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _serve(self, requests: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        self.accepted += 1
        dialled = await self._dial()
        if dialled is None:
            client.close()
            return
        answers, broker = dialled
        connection = _Connection(client=client, broker=broker)
        self._connections.add(connection)
        connection.pumps = [
            asyncio.create_task(self._pump(requests, broker, "up", connection)),
            asyncio.create_task(self._pump(answers, client, "down", connection)),
        ]
        try:
            await asyncio.wait(connection.pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._connections.discard(connection)
            connection.cut()
            await asyncio.gather(*connection.pumps, return_exceptions=True)

    async def _dial(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        if self.upstream is None:
            return None
        host, port = self.upstream.split(":")
        try:
            return await asyncio.open_connection(host, int(port))
        except OSError:
            return None

    async def _pump(
        self,
        source: asyncio.StreamReader,
        sink: asyncio.StreamWriter,
        direction: Direction,
        connection: _Connection,
    ) -> None:
        sink.transport.set_write_buffer_limits(high=0)  # what was drained has left this process
        while data := await source.read(_CHUNK):
            await self._flowing[direction].wait()
            left = self._left(connection, direction)
            granted = min(len(data), left) if left is not None else len(data)
            sink.write(data[:granted])
            await sink.drain()
            connection.passed[direction] += granted
            self.passed[direction] += granted
            if granted == left:
                self._trap = None
                self._sprung.set()
                return
            if self._bytes_per_s is not None:
                await asyncio.sleep(granted / self._bytes_per_s)

    def _left(self, connection: _Connection, direction: Direction) -> int | None:
        """How many bytes a connection may still forward before it is cut."""
        if self._trap is None or self._trap[0] != direction:
            return None
        _, count, already = self._trap
        return already.get(connection, 0) + count - connection.passed[direction]
