"""A log as a replay sees it: nothing can be written, and its end is the end."""

from __future__ import annotations

from collections.abc import Sequence

from slstream.errors import TransportError, UnknownTopic
from slstream.transport.contract import Record, StoredRecord, TopicConfig, Transport


class LogEnded(TransportError):
    """A replay has come to what is not in the log."""


class LogView(Transport):
    """Reads another transport, which stays its owner's to close."""

    def __init__(self, log: Transport) -> None:
        """View a log that is open."""
        self._log = log

    async def create_topic(self, topic: str, config: TopicConfig | None = None) -> None:
        """Check that the topic exists.

        Raises:
            LogEnded: it does not.
        """
        del config
        try:
            await self._log.topic_config(topic)
        except UnknownTopic as error:
            raise LogEnded(
                f"the log has no topic {topic}; was it deleted, or is another log meant "
                "(transport, --dir)?"
            ) from error

    async def delete_topic(self, topic: str) -> None:
        """Refuse."""
        raise LogEnded(f"a replay deletes nothing (topic {topic})")

    async def topics(self, prefix: str = "") -> Sequence[str]:
        """See :class:`Transport`."""
        return await self._log.topics(prefix)

    async def topic_config(self, topic: str) -> TopicConfig:
        """See :class:`Transport`."""
        return await self._log.topic_config(topic)

    async def append(self, topic: str, records: Sequence[Record], *, partition: int = 0) -> int:
        """Refuse: what would be appended is not in the log."""
        del records
        end = await self._log.end_offset(topic, partition=partition)
        raise LogEnded(f"topic {topic} ends at offset {end}")

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
        return await self._log.read(
            topic, offset, partition=partition, max_records=max_records, max_bytes=max_bytes
        )

    async def start_offset(self, topic: str, *, partition: int = 0) -> int:
        """See :class:`Transport`."""
        return await self._log.start_offset(topic, partition=partition)

    async def end_offset(self, topic: str, *, partition: int = 0) -> int:
        """See :class:`Transport`."""
        return await self._log.end_offset(topic, partition=partition)

    async def wait(
        self, topic: str, offset: int, *, partition: int = 0, timeout_s: float | None = None
    ) -> bool:
        """Whether the record is there; never waits.

        Raises:
            LogEnded: it is not.
        """
        del timeout_s
        end = await self._log.end_offset(topic, partition=partition)
        if end <= offset:
            raise LogEnded(f"topic {topic} ends at offset {end}")
        return True

    async def flush(self) -> None:
        """Nothing to force."""

    async def aclose(self) -> None:
        """The log stays open."""
