"""A log in memory, whose users are stopped at every append: for tests of who writes when."""

from __future__ import annotations

import types
from collections.abc import Generator, Sequence

from slstream.errors import OffsetOutOfRange, UnknownTopic
from slstream.transport.contract import Record, StoredRecord, TopicConfig, Transport


@types.coroutine
def stop() -> Generator[None, int | None, int | None]:
    """Return control to who steps the coroutine; what it sends comes back."""
    return (yield)


class MemoryLog(Transport):
    """Topics as lists. With ``stepped`` a user stops before and after each append.

    What is sent at the first stop is how many of the records reach the log; the others are kept in
    :attr:`late`, as what a killed process had in flight.
    """

    def __init__(self, *, stepped: bool = False) -> None:
        self.records: dict[str, list[Record]] = {}
        self.late: list[tuple[str, list[Record]]] = []
        self.flushed: list[dict[str, int]] = []
        """Ends of all topics at each flush."""
        self._stepped = stepped

    def values(self, topic: str) -> list[bytes]:
        return [record.value for record in self.records.get(topic, [])]

    def land(self) -> None:
        """Let what was in flight arrive."""
        for topic, records in self.late:
            self.records[topic] += records
        self.late.clear()

    async def create_topic(self, topic: str, config: TopicConfig | None = None) -> None:
        del config
        self.records.setdefault(topic, [])

    async def delete_topic(self, topic: str) -> None:
        del self.records[topic]

    async def topics(self, prefix: str = "") -> Sequence[str]:
        return sorted(topic for topic in self.records if topic.startswith(prefix))

    async def topic_config(self, topic: str) -> TopicConfig:
        del topic
        return TopicConfig()

    async def append(self, topic: str, records: Sequence[Record], *, partition: int = 0) -> int:
        del partition
        held = self._held(topic)
        arrive = await stop() if self._stepped else None
        offset = len(held)
        held += records[:arrive]
        if arrive is not None:
            self.late.append((topic, list(records[arrive:])))
        if self._stepped:
            await stop()
        return offset

    async def read(
        self,
        topic: str,
        offset: int,
        *,
        partition: int = 0,
        max_records: int = 1024,
        max_bytes: int = 8_388_608,
    ) -> Sequence[StoredRecord]:
        del max_bytes
        held = self._held(topic)
        if offset > len(held):
            raise OffsetOutOfRange(f"{topic} ends at {len(held)}, found {offset}")
        return [
            StoredRecord(
                topic=topic,
                partition=partition,
                offset=offset + index,
                timestamp_ms=0,
                value=record.value,
                key=record.key,
                headers=record.headers,
            )
            for index, record in enumerate(held[offset : offset + max_records])
        ]

    async def start_offset(self, topic: str, *, partition: int = 0) -> int:
        del topic, partition
        return 0

    async def end_offset(self, topic: str, *, partition: int = 0) -> int:
        del partition
        return len(self._held(topic))

    async def wait(
        self, topic: str, offset: int, *, partition: int = 0, timeout_s: float | None = None
    ) -> bool:
        """At once: who waits for what is not there would wait for ever."""
        del partition, timeout_s
        return len(self._held(topic)) > offset

    async def flush(self) -> None:
        self.flushed.append({topic: len(held) for topic, held in self.records.items()})

    async def aclose(self) -> None:
        pass

    def _held(self, topic: str) -> list[Record]:
        if topic not in self.records:
            raise UnknownTopic(f"no topic {topic}")
        return self.records[topic]
