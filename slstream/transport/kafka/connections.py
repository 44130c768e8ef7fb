"""Connections to brokers: opened when they are needed, dropped when they fail, closed at once.

What is beneath is aiokafka's connection, which speaks the protocol, TLS and SASL. Its producers
and consumers are not used: they hide a broker's errors while they try again, never give up a batch
that must not be written twice, cannot be closed while the broker is away, and let a seek wait for
the end of a long poll.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import threading
from collections.abc import Mapping
from contextlib import suppress
from time import monotonic
from typing import Any

from aiokafka import errors
from aiokafka.conn import AIOKafkaConnection

from slstream.errors import TransportDenied, TransportError
from slstream.transport.kafka.answers import NotYetError
from slstream.transport.kafka.settings import KafkaSettings
from slstream.transport.kafka.wire import Exactly

REQUEST_S = 10.0
"""How long an answer may take, from the last bytes on that the other end has taken or sent: a slow
link takes longer than that for a large batch. After it, the broker is asked again on a new
connection."""
CONNECT_S = 10.0
_NO_LIMIT_MS = 2**31 - 1
"""For aiokafka: limits are kept here."""
_LOOKS = 4
"""How often within that time it is seen whether bytes move."""
_BYTES_MOVED = slice(120, 136)
"""Bytes acknowledged and received in struct tcp_info of <linux/tcp.h>, since Linux 4.1."""
_CLOSE_S = 0.5

Address = tuple[str, int]

_REFUSED = (
    errors.AuthenticationFailedError,
    errors.AuthenticationMethodNotSupported,
    errors.IllegalSaslStateError,
    errors.SaslAuthenticationFailed,
    errors.UnsupportedSaslMechanismError,
    ValueError,  # The broker could not prove that it knows the password either.
)
_CUT = (ssl.SSLEOFError, ssl.SSLZeroReturnError, ssl.SSLSyscallError, ssl.SSLWantReadError)

_logger = logging.getLogger(__name__)


def quiet_aiokafka() -> None:
    """Let aiokafka's own logging be heard by those only who have asked for it.

    It repeats each failure ten times a second. What an operator needs is said here. And never let
    it tell details: it would format whole records.
    """
    logger = logging.getLogger("aiokafka")
    if logger.level == logging.NOTSET:
        logger.setLevel(logging.CRITICAL)
    elif logger.level < logging.INFO:
        logger.setLevel(logging.INFO)


class Outages:
    """Says once when a broker is lost, and once when it is back."""

    def __init__(self) -> None:
        self._lost_at: dict[Address, float] = {}

    def lost(self, address: Address, why: str) -> None:
        """It did not answer."""
        if address not in self._lost_at:
            self._lost_at[address] = monotonic()
            _logger.warning(
                "broker lost, trying again", extra={"broker": address_text(address), "why": why}
            )

    def answered(self, address: Address) -> None:
        """It did."""
        if self._lost_at and (lost_at := self._lost_at.pop(address, None)) is not None:
            away_s = round(monotonic() - lost_at, 1)
            extra = {"broker": address_text(address), "away_s": away_s}
            _logger.warning("broker is back", extra=extra)


class Connections:
    """The connections of one client id: at most one to each broker."""

    def __init__(self, options: Mapping[str, Any], client_id: str, outages: Outages) -> None:
        """Nothing is opened yet.

        Args:
            options: from :func:`connection_options`.
            client_id: in the brokers' logs and quotas.
            outages: of all connections of this process.
        """
        self._options = options
        self._client_id = client_id
        self._outages = outages
        self._open: dict[Address, asyncio.Task[_Connection]] = {}
        self._closed = False

    async def send(self, address: Address, request: Exactly) -> Any:
        """Ask a broker.

        Raises:
            NotYetError: no connection, or no answer in time; it may have done what was asked.
            TransportDenied: broker and user do not trust each other.
            TransportError: the broker is too old.
        """
        if self._closed:
            raise NotYetError("closed")
        task = self._open.get(address)
        if task is not None and task.done() and not _is_connected(task):
            # The broker has closed it, and nobody may have seen that yet.
            self._drop(address, task)
            task = None
        if task is None:
            task = self._open[address] = asyncio.create_task(self._connect(address))
            task.add_done_callback(_retrieve)
        if not task.done():
            # Not awaited itself: others may be waiting for the same connection.
            await asyncio.wait({task})
        if task.cancelled():
            raise NotYetError(f"{address_text(address)}: the connection was given up")
        connection = task.result()
        try:
            answer = await _answer(connection, request)
        except errors.UnsupportedVersionError as error:
            raise TransportError(f"{address_text(address)}: {error}") from error
        except TimeoutError as error:
            self._drop(address, task)
            why = f"no answer, and no part of one, within {REQUEST_S:g} s"
            raise self._lost(address, why) from error
        except (errors.KafkaError, OSError) as error:
            self._drop(address, task)
            raise self._lost(address, "the connection was cut") from error
        self._outages.answered(address)
        return answer

    def abort(self, address: Address) -> None:
        """Give up what was asked of a broker, so that the next request need not wait for it."""
        if (task := self._open.get(address)) is not None:
            self._drop(address, task)

    async def close(self) -> None:
        """Close all connections without a word."""
        self._closed = True
        tasks, self._open = list(self._open.values()), {}
        ends: list[asyncio.Future[Any]] = [task for task in tasks if not task.done()]
        ends += [end for end in map(_abort, tasks) if end is not None]
        if ends:
            await asyncio.wait(ends, timeout=_CLOSE_S)

    async def _connect(self, address: Address) -> _Connection:
        host, port = address
        try:
            async with asyncio.timeout(CONNECT_S):
                await _look_up(host, port)
                connection = _Connection(
                    host,
                    port,
                    client_id=self._client_id,
                    request_timeout_ms=_NO_LIMIT_MS,
                    **self._options,
                )
                await connection.connect()
        except (errors.KafkaError, OSError, ValueError) as error:
            refusal = _refusal(error)
            if refusal is not None:
                raise TransportDenied(
                    f"{address_text(address)}: this user and the broker do not trust each other "
                    f"({refusal}); check SLSTREAM_KAFKA_SECURITY_PROTOCOL and the credentials and "
                    "certificates that the environment names"
                ) from error
            raise self._lost(address, str(error) or "no answer to a greeting") from error
        if self._closed:
            connection.close()
            raise NotYetError("closed")
        self._outages.answered(address)
        return connection

    def _lost(self, address: Address, why: str) -> NotYetError:
        if not self._closed:
            self._outages.lost(address, why)
        return NotYetError(f"{address_text(address)}: {why}")

    def _drop(self, address: Address, task: asyncio.Task[_Connection]) -> None:
        if self._open.get(address) is task:
            del self._open[address]
        _abort(task)


class _Connection(AIOKafkaConnection):  # type: ignore[misc]  # It has no types.
    """A connection that ends at once, whoever ends it, and that tells whether bytes move."""

    def moved(self) -> bytes:
        """Changes when the other end has taken or sent bytes; on other systems than Linux never."""
        if self._writer is None or not hasattr(socket, "TCP_INFO"):
            return b""
        tcp: socket.socket = self._writer.get_extra_info("socket")
        try:
            info = tcp.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _BYTES_MOVED.stop)
        except OSError:
            return b""
        return info[_BYTES_MOVED]

    def close(self, reason: Any = None, exc: BaseException | None = None) -> Any:
        # Closing it alone would wait until all that is unsent is sent and, with TLS, until the
        # broker has taken its leave: for ever if need be.
        if self._writer is not None:
            self._writer.transport.abort()
        return super().close(reason, exc)


async def _look_up(host: str, port: int) -> None:
    """Ask the name server for a host, in a thread for which nobody waits.

    asyncio asks it again, in a thread for which the program waits at its end: not before this has
    worked, as a name server may be silent for minutes.

    Raises:
        OSError: it knows no such host.
    """
    loop = asyncio.get_running_loop()
    found: asyncio.Future[None] = loop.create_future()

    def tell(error: OSError | None) -> None:
        if not found.done():
            found.set_result(None) if error is None else found.set_exception(error)

    def ask() -> None:
        error: OSError | None = None
        try:
            socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError as failure:
            error = failure
        except UnicodeError as failure:  # Of a name that cannot be one.
            error = OSError(f"{host}: {failure}")
        with suppress(RuntimeError):  # The loop has ended.
            loop.call_soon_threadsafe(tell, error)

    threading.Thread(target=ask, name="slstream-look-up", daemon=True).start()
    await found


async def _answer(connection: _Connection, request: Exactly) -> Any:
    """What a broker answers.

    Raises:
        TimeoutError: it does not, and for :data:`REQUEST_S` no byte has moved.
    """
    loop = asyncio.get_running_loop()
    look_s = REQUEST_S / _LOOKS
    timer = loop.call_later(look_s, lambda: look(None))
    limit = asyncio.timeout(REQUEST_S)

    def look(before: bytes | None) -> None:
        nonlocal timer
        moved = connection.moved()
        if before is not None and moved != before and not limit.expired():
            limit.reschedule(loop.time() + REQUEST_S)
        timer = loop.call_later(look_s, look, moved)

    try:
        async with limit:
            return await connection.send(request)
    finally:
        timer.cancel()


def connection_options(settings: KafkaSettings) -> dict[str, Any]:
    """How aiokafka secures a connection. Holds the password.

    Raises:
        ConfigError: a certificate or key cannot be used.
    """
    options = settings.client_options()
    del options["bootstrap_servers"]
    return options


def address_of(text: str) -> Address:
    """``host:port`` as an address."""
    host, _, port = text.rpartition(":")
    return host.strip("[]"), int(port)


def address_text(address: Address) -> str:
    """An address, for messages."""
    return f"{address[0]}:{address[1]}"


def _retrieve(task: asyncio.Task[_Connection]) -> None:
    """Who waited for it may be gone."""
    if not task.cancelled():
        task.exception()


def _is_connected(task: asyncio.Task[_Connection]) -> bool:
    if task.cancelled() or task.exception() is not None:
        return False
    return bool(task.result().connected())


def _abort(task: asyncio.Task[_Connection]) -> asyncio.Future[None] | None:
    """End a connection, also one that is only being made; gives the end of one that was made."""
    if not task.done():
        task.cancel()
        task.add_done_callback(_abort)
        return None
    if task.cancelled() or task.exception() is not None:
        return None
    end: asyncio.Future[None] | None = task.result().close()
    return end


def _refusal(error: BaseException | None) -> str | None:
    """Why the two do not trust each other, if that is what an error says."""
    while error is not None:
        if isinstance(error, _REFUSED):
            return str(error) or type(error).__name__
        if isinstance(error, ssl.SSLError) and not isinstance(error, _CUT):
            return str(error)
        error = error.__cause__
    return None
