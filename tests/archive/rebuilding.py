"""Archives that were taken apart and put together again, with checksums that fit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path

from mcap.writer import CompressionType, IndexType, Writer

from slstream.archive.layout import CHUNK_BYTES, MESSAGE_ENCODING, PROFILE
from slstream.archive.reader import ArchiveFile
from slstream.archive.writer import ArchiveWriter
from slstream.transport.contract import StoredRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A message of an archive, as it lies there."""

    topic: str
    partition: int
    timestamp_ms: int
    offset: int
    data: bytes


def messages_of(path: Path) -> list[Message]:
    with ArchiveFile(path) as archive:
        return [
            Message(
                topic=place.name[0],
                partition=place.name[1],
                timestamp_ms=record.timestamp_ms,
                offset=record.offset,
                data=record.data,
            )
            for place in archive.chunks
            for record in archive.records(place)
        ]


def records_of(path: Path) -> list[StoredRecord]:
    with ArchiveFile(path) as archive:
        return [
            archive.decode(record, place)
            for place in archive.chunks
            for record in archive.records(place)
        ]


def manifest_of(path: Path) -> bytes:
    with ArchiveFile(path) as archive:
        return archive.manifest.to_json()


def write_messages(
    path: Path,
    messages: Sequence[Message],
    manifest: bytes,
    *,
    compression: CompressionType = CompressionType.NONE,
    profile: str = PROFILE,
    encoding: str = MESSAGE_ENCODING,
    chunk_size: int = CHUNK_BYTES,
    indexes: IndexType = IndexType.CHUNK | IndexType.ATTACHMENT,
    attachment: str = "manifest.json",
    chunked: bool = True,
) -> None:
    """Write messages as they are, with a manifest that may not fit them."""
    with path.open("wb") as file:
        writer = Writer(
            file,
            chunk_size=chunk_size,
            compression=compression,
            index_types=indexes,
            enable_data_crcs=True,
            use_chunking=chunked,
        )
        writer.start(profile=profile, library="x")
        for (topic, partition), group in groupby(messages, key=lambda m: (m.topic, m.partition)):
            channel = writer.register_channel(topic, encoding, 0, {"partition": str(partition)})
            for message in group:
                writer.add_message(
                    channel_id=channel,
                    sequence=message.offset & 0xFFFF_FFFF,
                    log_time=message.timestamp_ms * 1_000_000,
                    publish_time=message.timestamp_ms * 1_000_000,
                    data=message.data,
                )
            writer.flush()
        writer.add_attachment(0, 0, attachment, "application/json", manifest)
        writer.finish()


Edit = Callable[[list[StoredRecord]], list[StoredRecord]]


def rewrite(path: Path, topic: str, edit: Edit) -> Path:
    """Edit a topic's records and write the archive anew, as a forger would: all digests fit."""
    with ArchiveFile(path) as archive:
        manifest = archive.manifest
    records = records_of(path)
    with path.open("wb") as file:
        writer = ArchiveWriter(file)
        for entry in manifest.topics:
            partition = writer.partition(entry.topic, 0)
            chosen = [record for record in records if record.topic == entry.topic]
            for record in edit(chosen) if entry.topic == topic else chosen:
                partition.add(record)
            writer.add_topic(entry.topic, entry.config, (partition.finish(),))
        writer.finish(manifest.federation, manifest.session)
    return path


def renumbered(records: Sequence[StoredRecord]) -> list[StoredRecord]:
    """The same records without a hole in their offsets."""
    return [replace(record, offset=offset) for offset, record in enumerate(records)]
