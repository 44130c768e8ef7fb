"""Parties that lack a mechanism: the negative controls of the tests here.

Each function takes one mechanism out of the process that calls it, which is a party's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from slstream.errors import TransportBroken, TransportError
from slstream.frames.frame import Frame
from slstream.frames.header import decode_header
from slstream.frames.link import FrameReader
from slstream.party import inbound, outbound
from slstream.transport.contract import Record
from slstream.transport.kafka import answers, cluster, connections, reader, transport, writer
from slstream.transport.kafka.batches import Producer
from slstream.transport.kafka.transport import KafkaTransport
from tests.integration.faults import kind_of
from tests.replacing import replace_attribute

__all__ = ["Without", "names", "without"]


@dataclass(frozen=True, slots=True)
class Without:
    """To be installed in a party."""

    mechanisms: tuple[str, ...]
    """Names of functions below."""

    def install(self) -> None:
        """Take them out of this process."""
        for name in self.mechanisms:
            _MECHANISMS[name]()


def without(*mechanisms: str) -> Without:
    """A party that lacks these."""
    assert set(mechanisms) <= set(_MECHANISMS), mechanisms
    return Without(mechanisms)


def names() -> tuple[str, ...]:
    """Of all mechanisms."""
    return tuple(_MECHANISMS)


_MECHANISMS: dict[str, Callable[[], None]] = {}


def _mechanism(function: Callable[[], None]) -> Callable[[], None]:
    _MECHANISMS[function.__name__] = function
    return function


def _in_training(action: Callable[[KafkaTransport], None]) -> None:
    """Do something once this party sends its first tensor; setting a session up is left alone."""
    original, armed = KafkaTransport.append, [True]

    async def append(
        log: KafkaTransport, topic: str, records: Sequence[Record], *, partition: int = 0
    ) -> int:
        if armed and kind_of(records[0]) in ("activation", "gradient"):
            armed.clear()
            action(log)
        return await original(log, topic, records, partition=partition)

    replace_attribute(KafkaTransport, "append", append)


@_mechanism
def patience() -> None:
    """Give up at the first sign of trouble, nearly."""

    def limit(log: KafkaTransport) -> None:
        log._cluster.stuck_s = 0.5

    _in_training(limit)


@_mechanism
def patience_at_first() -> None:
    """Give up when the broker is away for a moment when the party starts."""
    original: Any = cluster.Cluster.__init__

    def __init__(self: cluster.Cluster, settings: Any, client: str, _: float) -> None:
        original(self, settings, client, 1.5)

    replace_attribute(cluster.Cluster, "__init__", __init__)


@_mechanism
def retry() -> None:
    """Take a connection that is cut for a failure."""

    def lost(self: object, address: connections.Address, why: str) -> TransportError:
        return TransportBroken(f"{address}: {why}")

    replace_attribute(connections.Connections, "_lost", lost)


@_mechanism
def identity() -> None:
    """Let the broker take every batch for a new one; ask again soon."""

    async def nobody(self: object) -> Producer:
        return Producer(id=-1, epoch=-1)

    replace_attribute(writer.PartitionWriter, "_new_producer", nobody)
    hurry()


@_mechanism
def hurry() -> None:
    """Ask again when an answer takes a second: no mechanism, but what calls for some."""
    for module in (connections, writer):
        replace_attribute(module, "REQUEST_S", 1.0)


@_mechanism
def duplicate_check() -> None:
    """Take a repeated frame for the next one."""
    original = FrameReader.push

    def push(self: FrameReader, value: bytes) -> Frame | None:
        header = decode_header(value)
        if header.payload_bytes:  # A fence is not a frame.
            self._next_sequence = min(self._next_sequence, header.sequence)
        return original(self, value)

    replace_attribute(FrameReader, "push", push)


@_mechanism
def suppression() -> None:
    """Send all frames after the checkpoint again, whether or not the link has them."""

    async def logged(self: Any, frame: object) -> None:
        if self._catching_up:
            self._catching_up = False
            self._end = await self._transport.end_offset(self.topic)

    replace_attribute(outbound.Outbound, "_logged", logged)


@_mechanism
def unknown_topics() -> None:
    """Wait for a topic that is not there to come back."""

    def not_yet(topic: str) -> answers.NotYetError:
        return answers.NotYetError(f"there is no topic {topic}")

    def wait(log: KafkaTransport) -> None:
        for module in (answers, cluster, reader, writer):
            replace_attribute(module, "unknown_topic", not_yet)

    _in_training(wait)


def _passing(codes: frozenset[int]) -> None:
    original = answers.check_answer

    def check_answer(code: int, *arguments: Any, **more: Any) -> None:
        if code in codes:
            raise answers.NotYetError(f"error {code}")
        original(code, *arguments, **more)

    def wait(log: KafkaTransport) -> None:
        for module in (answers, cluster, reader, writer):
            replace_attribute(module, "check_answer", check_answer)

    _in_training(wait)


@_mechanism
def refusals() -> None:
    """Take what the broker does not allow for what it does not do yet."""
    _passing(frozenset({29, 30, 31, 65}))

    def not_yet(error: object) -> None:
        return None

    replace_attribute(connections, "_refusal", not_yet)


@_mechanism
def record_limits() -> None:
    """Try again what is too large."""
    _passing(frozenset({10, 18}))


@_mechanism
def disk_failures() -> None:
    """Wait for a disk to come back, however long that takes."""
    replace_attribute(writer, "TAKE_OVER_S", 3600.0)

    def limit(log: KafkaTransport) -> None:
        log._cluster.stuck_s = 3600.0

    _in_training(limit)


@_mechanism
def offset_check() -> None:
    """Go on with the oldest record where the wanted one was removed, as consumers often do."""
    original = reader.PartitionReader.read

    async def read(self: Any, offset: int, *limits: int) -> Any:
        start = await self.start_offset()
        found = await original(self, max(offset, start), *limits)
        return [replace(record, offset=record.offset) for record in found]

    replace_attribute(reader.PartitionReader, "read", read)


@_mechanism
def hard_close() -> None:
    """Let closing wait for the broker."""
    replace_attribute(transport, "_FINISH_S", 3600.0)
    replace_attribute(connections.Connections, "close", _never)


async def _never(self: object) -> None:
    await asyncio.sleep(3600)


@_mechanism
def bounded_memory() -> None:
    """Keep 4 MiB for each second of waiting."""
    kept: list[bytes] = []

    async def hoard() -> None:
        kept.append(b"x" * 4_194_304)

    _while_waiting(hoard)


@_mechanism
def window() -> None:
    """Do not wait for the other party: each second, append the last frame five times again."""
    last: list[tuple[KafkaTransport, str, Sequence[Record]]] = []
    original = KafkaTransport.append

    async def append(
        log: KafkaTransport, topic: str, records: Sequence[Record], *, partition: int = 0
    ) -> int:
        if kind_of(records[0]) in ("activation", "gradient"):
            last[:] = [(log, topic, records)]
        return await original(log, topic, records, partition=partition)

    async def send() -> None:
        for log, topic, records in last * 5:
            await original(log, topic, records)

    replace_attribute(KafkaTransport, "append", append)
    _while_waiting(send)


def _while_waiting(action: Callable[[], Awaitable[None]]) -> None:
    """Do something for each second for which a party waits for another."""
    original = inbound.Inbound.next

    async def next_(self: inbound.Inbound, *arguments: Any, **more: Any) -> Any:
        on_tick = more.pop("on_tick")

        async def tick(waited_s: float) -> None:
            await action()
            await on_tick(waited_s)

        return await original(self, *arguments, on_tick=tick, **more)

    replace_attribute(inbound.Inbound, "next", next_)
