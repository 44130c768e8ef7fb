"""A log that is an archive: what reads a transport reads it unchanged, without a broker."""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn, Self

from slstream.archive.chunk import ChunkPlace
from slstream.archive.manifest import ArchivedPartition, Manifest
from slstream.archive.reader import ArchiveFile
from slstream.errors import (
    ArchiveError,
    OffsetOutOfRange,
    TransportBroken,
    TransportClosed,
    TransportError,
    UnknownTopic,
)
from slstream.transport.contract import Record, StoredRecord, TopicConfig, Transport

CACHE_BYTES = 67_108_864
"""Chunks that are kept decoded, so that links can be read in turns; at least one."""


class ArchiveTransport(Transport):
    """Reads an archive with the offsets of the log that it was made from.

    It keeps the contract of :class:`Transport` with these exceptions:

    - all that would change something raises :class:`TransportError`;
    - in the lobby and in the topics of incarnations and divergences other sessions' records are
      missing. As with a compacted topic of Kafka the start offset is 0, reading from an offset that
      is missing begins with the next record that is there, and the next offset to read from is one
      more than that of the last record that came. Links and schemas have no such holes;
    - a record that is not there will never come: :meth:`wait` says so when its time is over, and
      refuses to wait for ever.

    A chunk that is damaged raises :class:`TransportBroken` when it is read; to know before, verify
    the archive first.
    """

    def __init__(self, archive: ArchiveFile) -> None:
        """Use :meth:`open`."""
        self._archive = archive
        self._topics = {entry.topic: entry for entry in archive.manifest.topics}
        self._cache: OrderedDict[ChunkPlace, list[StoredRecord]] = OrderedDict()
        self._cached_bytes = 0
        self._closed = asyncio.Event()

    @classmethod
    async def open(cls, path: Path) -> Self:
        """Open an archive file; takes time in proportion to its number of chunks.

        Raises:
            ArchiveError: not an archive, or its structure is damaged.
        """
        return cls(await asyncio.to_thread(ArchiveFile, path))

    @property
    def manifest(self) -> Manifest:
        """Which session it is, and what the archive holds of it."""
        return self._archive.manifest

    async def create_topic(self, topic: str, config: TopicConfig | None = None) -> None:
        """Refused."""
        self._refuse("create a topic")

    async def delete_topic(self, topic: str) -> None:
        """Refused."""
        self._refuse("delete a topic")

    async def append(self, topic: str, records: Sequence[Record], *, partition: int = 0) -> int:
        """Refused."""
        self._refuse(f"append to {topic}")

    async def flush(self) -> None:
        """Refused."""
        self._refuse("flush")

    async def topics(self, prefix: str = "") -> Sequence[str]:
        """See :class:`Transport`."""
        self._check()
        return sorted(name for name in self._topics if name.startswith(prefix))

    async def topic_config(self, topic: str) -> TopicConfig:
        """See :class:`Transport`."""
        self._partition(topic, 0)
        return self._topics[topic].config

    async def read(
        self,
        topic: str,
        offset: int,
        *,
        partition: int = 0,
        max_records: int = 1024,
        max_bytes: int = 8_388_608,
    ) -> Sequence[StoredRecord]:
        """See :class:`Transport`, and the class about holes."""
        found = self._partition(topic, partition)
        if max_records < 1:
            raise ValueError(f"read: expected max_records of at least 1, found {max_records}")
        if not 0 <= offset <= found.end_offset:
            raise OffsetOutOfRange(
                f"{topic}[{partition}]: expected an offset from 0 to {found.end_offset}, found "
                f"{offset}"
            )
        taken: list[StoredRecord] = []
        left_bytes = max_bytes
        for place in self._archive.chunks_from((topic, partition), offset):
            records = await self._records(place)
            start = bisect_left(records, offset, key=lambda record: record.offset)
            for record in records[start : start + max_records - len(taken)]:
                left_bytes -= len(record.value)
                if taken and left_bytes < 0:
                    return taken
                taken.append(record)
            if len(taken) == max_records or left_bytes <= 0:
                break
        return taken

    async def start_offset(self, topic: str, *, partition: int = 0) -> int:
        """Always 0; see the class about holes. An empty partition ends there too."""
        self._partition(topic, partition)
        return 0

    async def end_offset(self, topic: str, *, partition: int = 0) -> int:
        """One more than the offset of the last record that was archived."""
        return self._partition(topic, partition).end_offset

    async def wait(
        self, topic: str, offset: int, *, partition: int = 0, timeout_s: float | None = None
    ) -> bool:
        """See :class:`Transport`.

        Raises:
            UnknownTopic: no such topic or partition.
            TransportError: nothing is there, and ``timeout_s`` is ``None``.
        """
        end = self._partition(topic, partition).end_offset
        if offset < end:
            return True
        if timeout_s is None:
            raise TransportError(
                f"{topic}[{partition}]: expected an offset below {end}, found {offset}: the log is "
                f"the archive {self._archive.path}, to which nothing will be added"
            )
        try:
            async with asyncio.timeout(timeout_s):
                await self._closed.wait()
        except TimeoutError:
            return False
        raise self._closed_error()

    async def aclose(self) -> None:
        """See :class:`Transport`."""
        self._closed.set()
        self._cache.clear()
        self._archive.close()

    async def _records(self, place: ChunkPlace) -> list[StoredRecord]:
        """A chunk's records, from the cache or the file."""
        cached = self._cache.get(place)
        if cached is not None:
            self._cache.move_to_end(place)
            return cached
        try:
            records = await asyncio.to_thread(self._load, place)
        except ArchiveError as error:
            if self._closed.is_set():
                raise self._closed_error() from None
            raise TransportBroken(str(error)) from error
        if place not in self._cache and not self._closed.is_set():
            self._cache[place] = records
            self._cached_bytes += place.length
        while self._cached_bytes > CACHE_BYTES and len(self._cache) > 1:
            oldest, _ = self._cache.popitem(last=False)
            self._cached_bytes -= oldest.length
        return records

    def _load(self, place: ChunkPlace) -> list[StoredRecord]:
        archive = self._archive
        return [archive.decode(record, place) for record in archive.records(place)]

    def _partition(self, topic: str, partition: int) -> ArchivedPartition:
        self._check()
        found = self._archive.partitions.get((topic, partition))
        if found is None:
            raise UnknownTopic(
                f"{topic}[{partition}]: expected a partition of {self._archive.path}, which holds "
                f"session {self.manifest.session}, found no such"
            )
        return found

    def _check(self) -> None:
        if self._closed.is_set():
            raise self._closed_error()

    def _refuse(self, what: str) -> NoReturn:
        self._check()
        raise TransportError(
            f"cannot {what}: the log is the archive {self._archive.path}, which never changes"
        )

    def _closed_error(self) -> TransportClosed:
        return TransportClosed(f"the archive {self._archive.path} was closed by this process")
