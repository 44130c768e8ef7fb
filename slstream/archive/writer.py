"""Writes an archive: records in, MCAP out, in bounded memory."""

from __future__ import annotations

from importlib.metadata import version
from typing import BinaryIO

from mcap.writer import CompressionType, IndexType, Writer
from pydantic import ValidationError

from slstream.archive.envelope import RecordDigest, encode_record
from slstream.archive.layout import (
    CHUNK_BYTES,
    MAX_MESSAGE_BYTES,
    MESSAGE_ENCODING,
    NANOSECONDS_PER_MS,
    PARTITION_KEY,
    PROFILE,
)
from slstream.archive.manifest import (
    MANIFEST_MEDIA_TYPE,
    MANIFEST_NAME,
    MAX_MANIFEST_BYTES,
    ArchivedPartition,
    ArchivedTopic,
    Manifest,
    first_problem,
)
from slstream.errors import ArchiveError
from slstream.transport.contract import StoredRecord, TopicConfig

_LAST_TIMESTAMP_MS = (2**64 - 1) // NANOSECONDS_PER_MS


class PartitionWriter:
    """Takes the records of one partition, in their order."""

    def __init__(self, writer: Writer, topic: str, partition: int) -> None:
        """Use :meth:`ArchiveWriter.partition`."""
        self._writer = writer
        self._topic = topic
        self._partition = partition
        self._channel_id: int | None = None
        self._digest = RecordDigest()
        self._records = self._end_offset = self._value_bytes = 0

    def add(self, record: StoredRecord) -> None:
        """Append a record.

        Raises:
            ArchiveError: it has no place in an archive, whose records are bounded.
        """
        place = f"{self._topic}[{self._partition}], offset {record.offset}"
        if not 0 <= record.timestamp_ms <= _LAST_TIMESTAMP_MS:
            raise ArchiveError(
                f"{place}: expected a timestamp from 0 to {_LAST_TIMESTAMP_MS} ms, found "
                f"{record.timestamp_ms}"
            )
        try:
            data = encode_record(record)
        except ValueError as error:
            raise ArchiveError(f"{place}: {error}") from None
        if len(data) > MAX_MESSAGE_BYTES:
            raise ArchiveError(
                f"{place}: expected a record of at most {MAX_MESSAGE_BYTES} bytes, found "
                f"{len(data)}: no frame is that large"
            )
        if self._channel_id is None:
            # With the first record: a channel of none would lie in the chunk of another.
            self._channel_id = self._writer.register_channel(
                self._topic, MESSAGE_ENCODING, 0, {PARTITION_KEY: str(self._partition)}
            )
        self._writer.add_message(
            channel_id=self._channel_id,
            sequence=record.offset & 0xFFFF_FFFF,
            log_time=record.timestamp_ms * NANOSECONDS_PER_MS,
            publish_time=record.timestamp_ms * NANOSECONDS_PER_MS,
            data=data,
        )
        self._digest.add(record.timestamp_ms, data)
        self._records += 1
        self._end_offset = record.offset + 1
        self._value_bytes += len(record.value)

    def finish(self) -> ArchivedPartition:
        """End the chunk; the manifest's entry."""
        if self._records:
            self._writer.flush()
        return ArchivedPartition(
            records=self._records,
            end_offset=self._end_offset,
            value_bytes=self._value_bytes,
            sha256=self._digest.hexdigest(),
        )


class ArchiveWriter:
    """Writes one archive to a stream. The same records give the same bytes."""

    def __init__(self, stream: BinaryIO) -> None:
        """Begin the file.

        Args:
            stream: at its start; stays the caller's to flush and close.
        """
        self._created_by = f"slstream {version('slstream')}"
        self._topics: list[ArchivedTopic] = []
        self._writer = Writer(
            stream,
            chunk_size=CHUNK_BYTES,
            compression=CompressionType.NONE,
            # Offsets are found through the envelope of the first record of each chunk.
            index_types=IndexType.CHUNK | IndexType.ATTACHMENT,
            enable_data_crcs=True,
        )
        self._writer.start(profile=PROFILE, library=self._created_by)

    def partition(self, topic: str, partition: int) -> PartitionWriter:
        """A writer for the next partition; one at a time, topics in the order of their names."""
        return PartitionWriter(self._writer, topic, partition)

    def add_topic(
        self, topic: str, config: TopicConfig, partitions: tuple[ArchivedPartition, ...]
    ) -> None:
        """Note a topic whose partitions are finished."""
        self._topics.append(
            ArchivedTopic(
                topic=topic,
                retention_ms=config.retention_ms,
                retention_bytes=config.retention_bytes,
                max_record_bytes=config.max_record_bytes,
                partitions=partitions,
            )
        )

    def finish(self, federation: str, session: str) -> Manifest:
        """Write the manifest and MCAP's summary.

        Raises:
            ArchiveError: what was added is not the contents of an archive.
        """
        try:
            manifest = Manifest(
                format=1,
                federation=federation,
                session=session,
                created_by=self._created_by,
                topics=tuple(self._topics),
            )
        except ValidationError as error:
            raise ArchiveError(
                f"session {session} cannot be archived: {first_problem(error)}"
            ) from error
        data = manifest.to_json()
        if len(data) > MAX_MANIFEST_BYTES:
            raise ArchiveError(
                f"session {session}: expected a manifest of at most {MAX_MANIFEST_BYTES} bytes, "
                f"found {len(data)}: too many partitions"
            )
        # Times of the attachment would be the clock's, and no two exports equal.
        self._writer.add_attachment(
            create_time=0,
            log_time=0,
            name=MANIFEST_NAME,
            media_type=MANIFEST_MEDIA_TYPE,
            data=data,
        )
        self._writer.finish()
        return manifest
