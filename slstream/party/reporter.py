"""Tells monitors and the user what the party is doing, without ever slowing it down."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from time import monotonic

from slstream.errors import TransportError, TransportTimeout
from slstream.frames.topics import telemetry_topic
from slstream.party.ledger import Ledger
from slstream.party.telemetry import PartyState, Progress
from slstream.transport.contract import Record, Transport

INTERVAL_S = 0.1
_SEND_TIMEOUT_S = 5.0
_LAST_S = 0.5
"""How long a party that ends waits for the log to take its last events."""
_MOST_QUEUED = 4096

Listener = Callable[[Progress], None]


class Reporter:
    """Holds the latest progress; sends it at most ten times a second.

    Ends of epochs and changes of state are all sent; of the steps between, only the latest.
    """

    def __init__(
        self, transport: Transport, federation: str, party: str, ledger: Ledger, listener: Listener
    ) -> None:
        """Report on one party.

        Args:
            transport: gets the events, in the telemetry topic.
            federation: its id.
            party: its id.
            ledger: of what the party has sent.
            listener: is called with each event that is sent, in the event loop.
        """
        self._transport = transport
        self._topic = telemetry_topic(federation, party)
        self._ledger = ledger
        self._listener = listener
        self._queue: deque[Progress] = deque(maxlen=_MOST_QUEUED)
        self._wake = asyncio.Event()
        self._closing = False
        self._limit: asyncio.Timeout | None = None
        """Of what is being asked of the log."""
        self._last_is_lasting = False
        self.latest = Progress(party=party, session="", state=PartyState.OPENING)

    def update(self, *, lasting: bool = False, **changes: object) -> None:
        """Change fields of the latest progress and send it soon.

        Args:
            lasting: an event of its own, which a later one does not replace before it is sent.
            changes: fields of :class:`Progress`.
        """
        self.latest = replace(
            self.latest,
            **changes,  # type: ignore[arg-type]
            raw_bytes=self._ledger.raw_bytes,
            wire_bytes=self._ledger.wire_bytes,
        )
        if self._queue and not lasting and not self._last_is_lasting:
            self._queue.pop()
        self._last_is_lasting = lasting
        self._queue.append(self.latest)
        self._wake.set()

    async def run(self) -> None:
        """Send until :meth:`close`; a failing log ends reporting, never the party.

        What a slow log does not take in time is dropped: what comes later says more.
        """
        try:
            await self._create_topic()
            while not (self._closing and not self._queue):
                await self._wake.wait()
                self._wake.clear()
                sent_at = monotonic()
                with suppress(TimeoutError, TransportTimeout):
                    await self._send()
                if not self._closing:
                    await asyncio.sleep(max(0.0, INTERVAL_S - (monotonic() - sent_at)))
        except TransportError:
            # What broke the log reaches the user through the session itself.
            self._queue.clear()

    async def _create_topic(self) -> None:
        while True:
            with suppress(TimeoutError, TransportTimeout):
                async with self._limited(None):
                    await self._transport.create_topic(self._topic)
                return
            if self._closing:
                return

    def close(self) -> None:
        """Send what is queued, if that is quickly done, then let :meth:`run` return."""
        self._closing = True
        if self._limit is not None and not self._limit.expired():
            self._limit.reschedule(asyncio.get_running_loop().time() + _LAST_S)
        self._wake.set()

    async def _send(self) -> None:
        events = list(self._queue)
        self._queue.clear()
        for event in events:
            self._listener(event)
        if events:
            async with self._limited(_SEND_TIMEOUT_S):
                await self._transport.append(
                    self._topic,
                    [Record(key=e.party.encode(), value=e.to_json()) for e in events],
                )

    @asynccontextmanager
    async def _limited(self, seconds: float | None) -> AsyncIterator[None]:
        async with asyncio.timeout(_LAST_S if self._closing else seconds) as self._limit:
            try:
                yield
            finally:
                self._limit = None
