"""Reads a party's progress events from the log."""

from __future__ import annotations

from collections.abc import Callable

from slstream.frames.topics import telemetry_topic
from slstream.party.telemetry import Progress
from slstream.transport.contract import Transport


class TelemetryReader:
    """Hands one party's events to a listener, in order, each once."""

    def __init__(
        self,
        transport: Transport,
        federation: str,
        party: str,
        listener: Callable[[Progress], None],
    ) -> None:
        """Bind to a party; call :meth:`open` first."""
        self._transport = transport
        self._party = party
        self._topic = telemetry_topic(federation, party)
        self._listener = listener
        self._offset = 0

    async def open(self) -> None:
        """Begin after the events that are in the log already."""
        await self._transport.create_topic(self._topic)
        self._offset = await self._transport.end_offset(self._topic)

    async def follow(self) -> None:
        """Hand over events as they come, until cancelled."""
        while True:
            await self._transport.wait(self._topic, self._offset)
            await self.drain()

    async def drain(self) -> None:
        """Hand over what is in the log now; bytes that are no progress event are skipped."""
        while records := await self._transport.read(self._topic, self._offset):
            for record in records:
                self._offset = record.offset + 1
                try:
                    event = Progress.from_json(record.value)
                except ValueError:
                    continue
                if event.party == self._party:
                    self._listener(event)
