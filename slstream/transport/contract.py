"""What every transport promises: Kafka's log semantics, stated once.

A transport stores opaque records in topics. A topic has a fixed number of partitions; a partition
is an append-only sequence of records with dense offsets from 0. It imports nothing of codecs,
frames or protocol: to a transport a record is bytes.

Guarantees, checked by :mod:`slstream.testing.transport` for every implementation:

- **Order.** Records of one partition have the order in which they were appended. Appends that one
  transport object issues to one partition land in the order of the calls, also when the calls are
  not awaited one by one. When one of them fails after others were queued behind it, these fail as
  well, and so does what is called until it has raised: nothing lands behind what is missing.
- **Density.** The offset after ``n`` is ``n + 1``; nobody ever sees a hole.
- **Atomicity.** The records of one ``append`` call that together are within the topic's
  ``max_record_bytes`` (with 64 bytes counted for each record, and 16 for each header) get
  consecutive offsets; after a crash of the writing process readers see all of them or none. A
  larger append is cut into such pieces, in order: a crash may leave the first of them, and another
  writer's records may come between them.
- **Visibility.** What ``append`` has returned for is visible to every reader, in every process.
- **Durability.** With ``Durability.STEP`` a returned append survives a power cut. With
  ``Durability.CHECKPOINT`` it survives the death of any process, and survives a power cut once a
  later ``flush()`` of the same process has returned. In no case does a record that
  survives follow one of the same partition that was lost. The same holds for the creation and
  deletion of topics.
- **Immutability.** A record never changes. Retention removes only from the front of a partition.
- **Failure.** Nothing unacknowledged is reported as sent. A full disk, a failed write or a failed
  fsync of this process raises :class:`TransportBroken`; from then on every call of that object
  raises it too. A broker that is away is no failure until a deadline: calls try again for about a
  minute, then raise :class:`TransportTimeout`, and the object stays usable.

A log on brokers keeps them with these words about what is theirs:

- A returned append is held by all replicas that are in sync. In how far that survives a power cut
  of theirs is up to the cluster: with three replicas, two of them in sync, the loss of one machine
  loses nothing. A single broker forces to its disk when it likes, and ``flush()`` cannot make it;
  after a power cut of its machine the log may end before a record that was acknowledged, so that a
  checkpoint is ahead of the log, which the party then says. The remedies are replicas, or
  ``Durability.STEP``: topics that are created with it are forced to the disk append by append
  (an existing topic keeps what it was created with).
- Timestamps are of the broker's clock, and go back when it does.
- Names that differ only in ``.`` and ``_`` may not exist side by side.
- A topic that is deleted may be read, as far as its records were read ahead, for two seconds more.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from types import TracebackType
from typing import Self


class Durability(StrEnum):
    """When an append counts as sent."""

    STEP = "step"
    """Each append reaches the disk before it is reported sent."""

    CHECKPOINT = "checkpoint"
    """Process death loses nothing; ``flush()`` makes all earlier appends safe from a power cut."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What is appended."""

    value: bytes
    """The content; opaque."""

    key: bytes | None = None
    """Readable in Kafka tools; never used to choose a partition."""

    headers: tuple[tuple[str, bytes], ...] = ()
    """Short, UTF-8 readable pairs; names may repeat, order is kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRecord:
    """What is read back: the record and its place in the log."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    """Milliseconds since the Unix epoch at which the log took the record, by its clock. Does not go
    back within a partition; informative only, nothing may be decided from it."""
    value: bytes
    key: bytes | None
    headers: tuple[tuple[str, bytes], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicConfig:
    """Settings of a topic; equal settings make creation idempotent."""

    partitions: int = 1
    retention_ms: int | None = None
    """Records older than this may be removed; ``None`` keeps them for ever."""
    retention_bytes: int | None = None
    """The oldest records of a partition may be removed while it holds more than this; ``None``
    keeps them for ever."""
    max_record_bytes: int = 1_048_576
    """Largest key + headers + value; Kafka's stock limit."""


class Transport(ABC):
    """A durable log, shared by several processes.

    All methods may raise :class:`TransportClosed` after :meth:`aclose`, :class:`TransportBroken`
    once the storage or broker has failed, :class:`TransportTimeout` when it was away for too long,
    and :class:`TransportDenied` when it gives this user no right to something. Topic names match
    ``[A-Za-z0-9._-]{1,200}``. Cancelling any call leaves the transport usable; a cancelled
    ``append`` may still take effect.
    """

    @abstractmethod
    async def create_topic(self, topic: str, config: TopicConfig | None = None) -> None:
        """Create a topic; does nothing when it exists with equal settings.

        Raises:
            TopicExists: it exists with other settings; the message names the first that differs.
            ValueError: the name or a setting is outside its range.
        """

    @abstractmethod
    async def delete_topic(self, topic: str) -> None:
        """Remove a topic with all its records.

        Raises:
            UnknownTopic: there is no such topic.
        """

    @abstractmethod
    async def topics(self, prefix: str = "") -> Sequence[str]:
        """Names of the topics that start with ``prefix``, sorted."""

    @abstractmethod
    async def topic_config(self, topic: str) -> TopicConfig:
        """The settings a topic was created with.

        Raises:
            UnknownTopic: there is no such topic.
        """

    @abstractmethod
    async def append(self, topic: str, records: Sequence[Record], *, partition: int = 0) -> int:
        """Append records and return the offset of the first, once they are sent.

        "Sent" means visible to every reader, and durable as the transport's durability says.
        Memory is bounded: the call waits while more than the transport's limit is in flight.

        Raises:
            UnknownTopic: no such topic or partition.
            RecordTooLarge: a record is above the topic's limit; nothing was appended.
            ValueError: ``records`` is empty.
        """

    @abstractmethod
    async def read(
        self,
        topic: str,
        offset: int,
        *,
        partition: int = 0,
        max_records: int = 1024,
        max_bytes: int = 8_388_608,
    ) -> Sequence[StoredRecord]:
        """Records from ``offset`` on, at once; empty when ``offset`` is the end.

        At least one record is returned when there is one, also when it is above ``max_bytes``.

        Raises:
            UnknownTopic: no such topic or partition.
            OffsetOutOfRange: before the first kept record or after the end; the message gives both.
            ValueError: ``max_records`` is below 1.
        """

    @abstractmethod
    async def start_offset(self, topic: str, *, partition: int = 0) -> int:
        """Offset of the first record that is still kept; equals the end offset when none is."""

    @abstractmethod
    async def end_offset(self, topic: str, *, partition: int = 0) -> int:
        """The offset that the next record will get."""

    @abstractmethod
    async def wait(
        self, topic: str, offset: int, *, partition: int = 0, timeout_s: float | None = None
    ) -> bool:
        """Wait until a record at ``offset`` exists; ``False`` when ``timeout_s`` passed first.

        Woken by an event, not by sleeping. Waits for appends of any process. A record that
        retention has removed since counts as well: reading it then says so.

        Raises:
            UnknownTopic: no such topic or partition, also when it is deleted meanwhile.
        """

    @abstractmethod
    async def flush(self) -> None:
        """Force to disk all that this object has appended so far (see durability above)."""

    async def commit(self, group: str, offsets: Mapping[str, int]) -> None:  # noqa: B027
        """Tell the log how far a reader has come, for tools that show its lag.

        Nothing may be decided from it. Does not wait; a failure is logged, not raised. Does nothing
        where a log knows no readers.

        Args:
            group: the reader's name.
            offsets: of the next record to be read, by topic; partition 0.
        """

    @abstractmethod
    async def aclose(self) -> None:
        """Finish the appends in flight, then release everything. Idempotent; at most 5 s."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()
