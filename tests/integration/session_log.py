"""The log of a run, read by a test: it waits for records, and counts them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from time import monotonic
from typing import Any, TypeVar

from slstream.frames.link import FrameReader, LinkStatistics
from slstream.frames.topics import (
    divergences_topic,
    incarnations_topic,
    link_topic,
    lobby_topic,
    telemetry_topic,
)
from slstream.party.telemetry import Progress
from slstream.transport.connect import embedded_url, open_transport
from slstream.transport.contract import StoredRecord, Transport
from tests.integration.faults import kind_of, step_of

T = TypeVar("T")

PATIENCE_S = 90.0

FEDERATION = "small"

Place = tuple[str, str, str]
"""(part of the topic's name, kind, step), as :class:`AtAppend` takes them."""


class SessionLog:
    """The log below a run's folder; every call opens it anew."""

    def __init__(self, run: Path) -> None:
        """Create the log where it is missing, so that it can be waited on from the beginning."""
        self.run = run
        self._url = embedded_url(run / "log")

    def wait_for(self, sender: str, receiver: str, kind: str, step: str = "") -> None:
        """Wait until a link of the newest session holds a record."""

        async def main(log: Transport) -> None:
            topic = link_topic(FEDERATION, sender, receiver, await _session(log))
            await log.create_topic(topic)
            await _find(log, topic, lambda r: kind_of(r) == kind and step in ("", step_of(r)))

        self._do(main)

    def wait_for_announcements(self, number: int) -> None:
        """Wait until so many sessions were announced."""

        async def main(log: Transport) -> None:
            left = number

            def is_last(record: StoredRecord) -> bool:
                nonlocal left
                left -= kind_of(record) == "announce"
                return left == 0

            await _find(log, lobby_topic(FEDERATION), is_last)

        self._do(main)

    def wait_for_incarnations(self, party: str, number: int) -> None:
        """Wait until so many processes of a party have started."""

        async def main(log: Transport) -> None:
            topic = incarnations_topic(FEDERATION, party)
            await log.create_topic(topic)
            await _find(log, topic, lambda record: record.offset + 1 >= number)

        self._do(main)

    def wait_for_progress(self, party: str, accept: Callable[[Progress], bool]) -> Progress:
        """Wait until a party reports something, from the beginning on."""

        async def main(log: Transport) -> Progress:
            topic = telemetry_topic(FEDERATION, party)
            await log.create_topic(topic)
            record = await _find(log, topic, lambda r: accept(Progress.from_json(r.value)))
            return Progress.from_json(record.value)

        return self._do(main)

    def lobby(self) -> list[tuple[str, str, str]]:
        """(type, session, outcome) of all messages."""

        async def main(log: Transport) -> list[tuple[str, str, str]]:
            found = []
            for record in await _all(log, lobby_topic(FEDERATION)):
                fields = json.loads(record.value)
                found.append((fields["type"], fields["session"], fields.get("outcome", "")))
            return found

        return self._do(main)

    def divergences(self, party: str) -> list[dict[str, Any]]:
        """What a party recorded."""

        async def main(log: Transport) -> list[dict[str, Any]]:
            topic = divergences_topic(FEDERATION, party)
            if topic not in await log.topics():
                return []
            return [json.loads(record.value) for record in await _all(log, topic)]

        return self._do(main)

    def link(self, sender: str, receiver: str) -> LinkStatistics:
        """What a reader of the newest session's link makes of it."""

        async def main(log: Transport) -> LinkStatistics:
            topic = link_topic(FEDERATION, sender, receiver, await _session(log))
            reader = FrameReader()
            for record in await _all(log, topic):
                reader.push(record.value)
            return reader.statistics

        return self._do(main)

    def places(self) -> list[Place]:
        """Every place of the newest session where a party appends to a link or to the lobby."""

        async def main(log: Transport) -> list[Place]:
            session, found = await _session(log), []
            for topic in await log.topics():
                lobby = topic == lobby_topic(FEDERATION)
                if not lobby and not (topic.endswith(session) and "-to-" in topic):
                    continue
                part = ".lobby" if lobby else topic.removeprefix(FEDERATION).removesuffix(session)
                for record in await _all(log, topic):
                    place = (part, kind_of(record), step_of(record))
                    if place not in found:
                        found.append(place)
            return found

        return self._do(main)

    def _do(self, main: Callable[[Transport], Awaitable[T]]) -> T:
        async def with_log() -> T:
            async with await open_transport(self._url) as log:
                await log.create_topic(lobby_topic(FEDERATION))
                return await main(log)

        return asyncio.run(with_log())


def sender_of(place: Place) -> str:
    """Who appends there."""
    return "alice" if place[0] == ".lobby" else place[0].strip(".").partition("-to-")[0]


async def _session(log: Transport) -> str:
    """The newest session; waits for the first one."""
    topic = lobby_topic(FEDERATION)
    await _find(log, topic, lambda record: kind_of(record) == "announce")
    announced = [each for each in await _all(log, topic) if kind_of(each) == "announce"]
    return str(json.loads(announced[-1].value)["session"])


async def _find(log: Transport, topic: str, accept: Callable[[StoredRecord], bool]) -> StoredRecord:
    offset, deadline = 0, monotonic() + PATIENCE_S
    while True:
        left_s = deadline - monotonic()
        if left_s <= 0 or not await log.wait(topic, offset, timeout_s=left_s):
            raise AssertionError(f"{topic} has {offset} records after {PATIENCE_S} s, and not it")
        for record in await log.read(topic, offset):
            offset = record.offset + 1
            if accept(record):
                return record


async def _all(log: Transport, topic: str) -> list[StoredRecord]:
    found: list[StoredRecord] = []
    while records := await log.read(topic, len(found)):
        found += records
    return found
