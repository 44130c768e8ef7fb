"""The Kafka transport: what a process holds to use a log on a cluster."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from time import monotonic
from typing import Self

from slstream.errors import (
    TransportBroken,
    TransportError,
    TransportTimeout,
    UnknownTopic,
)
from slstream.transport.contract import Durability, Record, StoredRecord, TopicConfig, Transport
from slstream.transport.kafka.cluster import Cluster
from slstream.transport.kafka.connections import quiet_aiokafka
from slstream.transport.kafka.groups import Groups
from slstream.transport.kafka.pool import Pool
from slstream.transport.kafka.reader import PartitionReader
from slstream.transport.kafka.settings import KafkaSettings
from slstream.transport.kafka.topics import Topics
from slstream.transport.kafka.writer import Append, PartitionWriter
from slstream.transport.topics import check_topic

STUCK_S = 60.0
"""For how long the cluster may be away: longer than a broker's restart or a change of leaders."""

_FINISH_S = 3.5
"""Of the five seconds that closing may take, for the appends in flight."""
_COMMIT_S = 0.5


class KafkaTransport(Transport):
    """One process's handle on the log of a cluster.

    All of it happens on the event loop: appends of one partition go out one batch after the other,
    and each partition that is read has a buffer that is filled from behind. Each partition has
    connections of its own, with ``<client>.<topic>`` as client id.

    An object belongs to the process and the event loop that opened it.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        *,
        durability: Durability = Durability.CHECKPOINT,
        read_only: bool = False,
        client: str = "slstream",
        stuck_s: float = STUCK_S,
    ) -> None:
        """Use :meth:`open`, which also sees whether the cluster is there."""
        self._settings = settings
        self._read_only = read_only
        self._cluster = Cluster(settings, client, stuck_s)
        self._topics = Topics(self._cluster, durability)
        self._groups = Groups(self._cluster)
        self._closing: asyncio.Task[None] | None = None
        self._writers = Pool(
            lambda topic, partition: PartitionWriter(
                self._cluster, self._topics, topic, partition, f"{client}.{topic}"
            ),
            lambda writer: writer.close(self._closed_error()),
        )
        self._readers = Pool(
            lambda topic, partition: PartitionReader(
                self._cluster, topic, partition, f"{client}.{topic}"
            ),
            lambda reader: reader.close(self._closed_error()),
        )

    @classmethod
    async def open(
        cls,
        settings: KafkaSettings,
        *,
        durability: Durability = Durability.CHECKPOINT,
        read_only: bool = False,
        client: str = "slstream",
        stuck_s: float = STUCK_S,
    ) -> Self:
        """Open the log as soon as a broker answers.

        Args:
            settings: where the cluster is, and who asks.
            durability: of the topics that are created; see :class:`Durability`.
            read_only: refuse to change anything.
            client: the beginning of the client ids in the brokers' own logs and quotas.
            stuck_s: for how long the cluster may be away.

        Raises:
            TransportTimeout: no broker answers in time.
            TransportDenied: a broker does not know this user, or one does not trust the other.
        """
        quiet_aiokafka()
        transport = cls(
            settings, durability=durability, read_only=read_only, client=client, stuck_s=stuck_s
        )
        try:
            await transport._cluster.insist("open the log", transport._cluster.brokers)
        except BaseException:
            await transport._cluster.close()
            raise
        return transport

    async def create_topic(self, topic: str, config: TopicConfig | None = None) -> None:
        """See :class:`Transport`."""
        wanted = config or TopicConfig()
        self._check_writable()
        check_topic(topic, wanted)
        what = f"create topic {topic}"
        await self._cluster.insist(what, lambda: self._topics.create(topic, wanted))

    async def delete_topic(self, topic: str) -> None:
        """See :class:`Transport`."""
        self._check_writable()
        what = f"delete topic {topic}"
        view = await self._cluster.insist(what, lambda: self._cluster.topic(topic))
        asked = False

        async def attempt() -> None:
            nonlocal asked
            try:
                repeated, asked = asked, True
                await self._topics.delete(topic)
            except UnknownTopic:
                if not repeated:  # Otherwise an earlier attempt has worked.
                    raise

        await self._cluster.insist(what, attempt)
        await self._cluster.insist(what, lambda: self._topics.check_gone(view))

    async def topics(self, prefix: str = "") -> Sequence[str]:
        """See :class:`Transport`."""
        self._check()
        names = await self._cluster.insist("list topics", self._cluster.names)
        return sorted(name for name in names if name.startswith(prefix))

    async def topic_config(self, topic: str) -> TopicConfig:
        """See :class:`Transport`."""
        self._check()
        what = f"look at topic {topic}"
        return (await self._cluster.insist(what, lambda: self._topics.describe(topic))).config

    async def append(self, topic: str, records: Sequence[Record], *, partition: int = 0) -> int:
        """See :class:`Transport`."""
        self._check_writable()
        if not records:
            raise ValueError(f"append to {topic}[{partition}]: expected at least one record")
        loop = asyncio.get_running_loop()
        append = Append(records=records, answer=loop.create_future(), settled=loop.create_future())
        # Nothing is awaited before it is queued: the order of the calls is the order in the log.
        writer = self._writers.get(topic, partition)
        writer.put(append)
        try:
            what = f"append to {writer.place}"
            await self._done(writer, append.answer, append.asked_at, what)
            return append.answer.result()
        except TransportTimeout as error:
            writer.time_out(append, error)
            raise
        except asyncio.CancelledError:
            writer.give_up(append)
            raise
        finally:
            writer.told(append)

    async def read(
        self,
        topic: str,
        offset: int,
        *,
        partition: int = 0,
        max_records: int = 1024,
        max_bytes: int = 8_388_608,
    ) -> Sequence[StoredRecord]:
        """See :class:`Transport`."""
        self._check()
        if max_records < 1:
            raise ValueError(f"read: expected max_records of at least 1, found {max_records}")
        reader = self._readers.get(topic, partition)
        with reader:
            return await reader.read(offset, max_records, max_bytes)

    async def start_offset(self, topic: str, *, partition: int = 0) -> int:
        """See :class:`Transport`."""
        self._check()
        reader = self._readers.get(topic, partition)
        with reader:
            return await reader.start_offset()

    async def end_offset(self, topic: str, *, partition: int = 0) -> int:
        """See :class:`Transport`."""
        self._check()
        reader = self._readers.get(topic, partition)
        with reader:
            return await reader.end_offset()

    async def wait(
        self, topic: str, offset: int, *, partition: int = 0, timeout_s: float | None = None
    ) -> bool:
        """See :class:`Transport`."""
        self._check()
        reader = self._readers.get(topic, partition)
        with reader:
            return await reader.wait(offset, timeout_s)

    async def flush(self) -> None:
        """See :class:`Transport`; the replicas have what the log has taken."""
        self._check_writable()
        began = monotonic()
        for writer in self._writers.all():
            if (last := writer.last) is not None:
                await self._done(writer, last.settled, began, f"flush {writer.place}")

    async def commit(self, group: str, offsets: Mapping[str, int]) -> None:
        """See :class:`Transport`; returns at once. A read-only object commits nothing."""
        self._check()
        if not self._read_only and offsets:
            self._groups.commit(group, offsets)

    async def aclose(self) -> None:
        """See :class:`Transport`."""
        if self._closing is None:
            self._closing = asyncio.get_running_loop().create_task(self._close())
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        # 1. Who waits for others is told.
        await asyncio.gather(*(r.close(self._closed_error()) for r in self._readers.all()))
        # 2. What was appended is finished, if a broker is there and the caller has not gone.
        with suppress(TimeoutError):
            async with asyncio.timeout(_FINISH_S):
                for writer in self._writers.all():
                    while (last := writer.awaited) is not None:
                        await asyncio.wait({last.settled})
        # 3. All else ends now.
        with suppress(TimeoutError):
            async with asyncio.timeout(_COMMIT_S):
                await self._groups.finish()
        self._groups.stop()
        self._cluster.stop()
        broken = TransportBroken(
            f"the log at {self._settings.brokers} did not take this append within {_FINISH_S:g} s "
            "of closing; it may or may not be in the log"
        )
        await asyncio.gather(*(writer.close(broken) for writer in self._writers.all()))
        await self._readers.close()
        await self._writers.close()
        await self._cluster.close()

    async def _done(
        self,
        writer: PartitionWriter,
        future: asyncio.Future[int] | asyncio.Future[None],
        asked_at: float,
        what: str,
    ) -> None:
        """Wait as long as the log takes one batch after the other."""
        while not future.done():
            left_s = max(asked_at, writer.progress_at) + self._cluster.stuck_s - monotonic()
            if left_s <= 0:
                raise self._cluster.timeout(what, writer.why)
            await asyncio.wait({future}, timeout=left_s)

    def _check(self) -> None:
        if self._closing is not None:
            raise self._closed_error()

    def _check_writable(self) -> None:
        self._check()
        if self._read_only:
            raise TransportError(f"the log at {self._settings.brokers} was opened for reading only")

    def _closed_error(self) -> TransportError:
        return self._cluster.closed_error()
