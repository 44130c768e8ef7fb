"""A Kafka cluster as one thing that is asked: which brokers there are, and which leads what."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from time import monotonic
from typing import Any, TypeVar

from slstream.errors import TransportClosed, TransportTimeout
from slstream.transport.kafka.answers import (
    NO_ERROR,
    UNKNOWN_TOPIC,
    NotYetError,
    check_answer,
    unknown_topic,
)
from slstream.transport.kafka.connections import (
    Address,
    Connections,
    Outages,
    address_of,
    connection_options,
)
from slstream.transport.kafka.settings import KafkaSettings
from slstream.transport.kafka.wire import Exactly, metadata_request

FIRST_PAUSE_S = 0.02
LONGEST_PAUSE_S = 0.5

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionView:
    """Who leads a partition."""

    leader: Address | None
    epoch: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicView:
    """A topic as a broker knows it."""

    name: str
    id: bytes
    """Another one, when the topic is deleted and created again."""
    partitions: Mapping[int, PartitionView]

    def partition(self, number: int) -> PartitionView:
        """One of its partitions.

        Raises:
            UnknownTopic: it has no such partition.
            NotYetError: it has, but the broker asked has not heard of it.
        """
        if number not in self.partitions:
            raise unknown_topic(f"{self.name}[{number}] (it has {len(self.partitions)} partitions)")
        return self.partitions[number]

    def leader_of(self, number: int) -> Address:
        """Whom to ask for a partition.

        Raises:
            UnknownTopic: it has no such partition.
            NotYetError: nobody leads it at the moment.
        """
        leader = self.partition(number).leader
        if leader is None:
            raise NotYetError(f"{self.name}[{number}] has no leader")
        return leader


class Cluster:
    """The brokers, and what every part of the transport asks of them."""

    def __init__(self, settings: KafkaSettings, client: str, stuck_s: float) -> None:
        """Nothing is connected yet.

        Args:
            settings: where and as whom.
            client: the client id of what is asked of no single topic's log.
            stuck_s: for how long the cluster may be away.
        """
        self.settings = settings
        self.stuck_s = stuck_s
        # Once for all connections: it reads the certificates' files.
        self._options = connection_options(settings)
        self._outages = Outages()
        self._first = [address_of(text) for text in settings.addresses]
        self._brokers: dict[int, Address] = {}
        self._controller: Address | None = None
        self._answered: Address | None = None
        self._turn = zlib.crc32(client.encode())
        """Lets clients differ in whom they ask first."""
        self._closed = asyncio.Event()
        self._connections = self.connections(client)

    def connections(self, client_id: str) -> Connections:
        """Connections of a client id of its own; who asks for them closes them."""
        return Connections(self._options, client_id, self._outages)

    def check_open(self) -> None:
        """Raise :class:`TransportClosed` once :meth:`close` was called."""
        if self._closed.is_set():
            raise self.closed_error()

    def closed_error(self) -> TransportClosed:
        """What is told to those who call, or are waiting, after the end."""
        return TransportClosed(f"the log at {self.settings.brokers} was closed by this process")

    def stop(self) -> None:
        """Let no new attempt begin."""
        self._closed.set()

    async def close(self) -> None:
        """End the connections."""
        self.stop()
        await self._connections.close()

    async def pause(self, seconds: float) -> None:
        """Wait, but not beyond the end.

        Raises:
            TransportClosed: the end came.
        """
        with suppress(TimeoutError):
            await asyncio.wait_for(self._closed.wait(), seconds)
        self.check_open()

    async def insist(self, what: str, attempt: Callable[[], Awaitable[T]]) -> T:
        """Try until it works, is refused, or the cluster was away for too long.

        Args:
            what: for the message: ``"read t[0] at offset 5"``.
            attempt: raises :class:`NotYetError` to be tried again.

        Raises:
            TransportTimeout: the cluster was away for ``stuck_s``.
            TransportClosed: the transport was closed meanwhile.
        """
        began, pause_s, why = monotonic(), FIRST_PAUSE_S, "no answer"
        while True:
            self.check_open()
            try:
                async with asyncio.timeout(began + self.stuck_s - monotonic()):
                    return await attempt()
            except NotYetError as error:
                why = str(error)
            except TimeoutError:
                pass
            left_s = began + self.stuck_s - monotonic()
            if left_s <= 0:
                self.check_open()
                raise self.timeout(what, why)
            await self.pause(min(pause_s, left_s))
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    def timeout(self, what: str, why: str) -> TransportTimeout:
        """The cluster was away for too long."""
        return TransportTimeout(
            f"could not {what} within {self.stuck_s:g} s at {self.settings.brokers}: {why}. See "
            "whether the broker runs and can be reached from here, and what its log says; then "
            "start again"
        )

    async def ask(self, request: Exactly) -> Any:
        """Ask any broker.

        Raises:
            NotYetError: none of them answers.
            TransportDenied: one of them does not know this user.
        """
        why = NotYetError("no broker is known")
        for address in self._addresses():
            try:
                answer = await self._connections.send(address, request)
            except NotYetError as error:
                why = error
                self.check_open()
            else:
                self._answered = address
                return answer
        raise why

    async def ask_one(self, address: Address, request: Exactly) -> Any:
        """Ask this broker.

        Raises:
            NotYetError: it does not answer.
            TransportDenied: it does not know this user.
        """
        return await self._connections.send(address, request)

    async def ask_controller(self, request: Exactly) -> Any:
        """Ask the broker that may change topics.

        Raises:
            NotYetError: it is not known, or does not answer.
        """
        if self._controller is None:
            await self.names()
        if self._controller is None:
            raise NotYetError("the cluster has no controller")
        controller, self._controller = self._controller, None
        answer = await self._connections.send(controller, request)
        self._controller = controller
        return answer

    async def brokers(self) -> list[Address]:
        """All brokers that are up, as one of them knows.

        Raises:
            NotYetError: none of them answers.
        """
        self._learn(await self.ask(metadata_request([])))
        return list(self._brokers.values())

    async def names(self) -> list[str]:
        """All topics that are not the brokers' own.

        Raises:
            NotYetError: no broker answers.
        """
        answer = await self.ask(metadata_request(None))
        self._learn(answer)
        return [name for _, name, _, is_internal, *_ in answer.topics if not is_internal]

    async def topic(self, name: str) -> TopicView:
        """Look a topic up. It is unknown when all brokers that are up say so.

        Raises:
            UnknownTopic: there is none.
            TransportDenied: this user may not see it.
            NotYetError: no broker answers, or none knows enough yet.
        """
        answer = await self.ask(metadata_request([name]))
        self._learn(answer)
        view = self._view(name, answer)
        if view is not None:
            return view
        for address in list(self._brokers.values()):
            if address == self._answered:
                continue
            with suppress(NotYetError):
                view = await self.topic_at(address, name)
            if view is not None:
                return view
        raise unknown_topic(name)

    async def topic_at(self, address: Address, name: str) -> TopicView | None:
        """A topic as one broker knows it; ``None`` when it does not.

        Raises:
            NotYetError: it does not answer, or does not know enough yet.
        """
        return self._view(name, await self._connections.send(address, metadata_request([name])))

    def _addresses(self) -> list[Address]:
        """Whom to ask, best first: they answer, are known, or stand in the URL."""
        known = list(self._brokers.values())
        first = self._turn % max(1, len(known))
        known = known[first:] + known[:first]
        answered = [self._answered] if self._answered is not None else []
        return list(dict.fromkeys((*answered, *known, *self._first)))

    def _learn(self, answer: Any) -> None:
        found = {node: (host, port) for node, host, port, *_ in answer.brokers}
        if found:  # A cluster that starts may not know its brokers yet.
            self._brokers = found
            self._controller = found.get(answer.controller_id)

    def _view(self, name: str, answer: Any) -> TopicView | None:
        (found,) = answer.topics
        code, _, topic_id, _, partitions, *_ = found
        if code == UNKNOWN_TOPIC:
            return None
        check_answer(code, "DESCRIBE", name)
        brokers = {node: (host, port) for node, host, port, *_ in answer.brokers}
        views = {
            number: PartitionView(
                leader=brokers.get(leader) if error == NO_ERROR else None, epoch=epoch
            )
            for error, number, leader, epoch, *_ in partitions
        }
        return TopicView(name=name, id=topic_id, partitions=views)
