"""From a log to an archive."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import BinaryIO

from slstream.archive.contents import Selection, TopicRole, TopicSelection, session_of
from slstream.archive.manifest import ArchivedPartition
from slstream.archive.verification import ArchiveReport, verify
from slstream.archive.writer import ArchiveWriter
from slstream.errors import ArchiveError, FrameError
from slstream.frames.topics import check_name, lobby_topic
from slstream.party.atomic_file import replacing
from slstream.transport.contract import StoredRecord, Transport

_LOBBY_SUFFIX = lobby_topic("x").removeprefix("x")


async def export_session(
    transport: Transport,
    session: str,
    path: Path,
    *,
    federation: str | None = None,
    force: bool = False,
) -> ArchiveReport:
    """Write one session of a log into a file, which appears under its name whole or not at all.

    What was written is verified before it gets its name: an archive that exists is intact, and so
    were the links of the session. A session that goes on meanwhile is archived as far as each link
    had come. Memory is bounded, whatever the size of the session. The same log gives the same file.

    Args:
        transport: stays the caller's to close; may be read-only.
        session: its name.
        path: of the new file.
        federation: whose session it is; needed only when several in this log have one of this name.
        force: replace a file that exists.

    Raises:
        ArchiveError: the log holds no such session, or not all of it; or the file exists.
        StorageError: the disk refuses.
        TransportError: the log cannot be read.
    """
    federation = await _federation_of(transport, session, federation)
    _check_free(path, force=force)
    with replacing(path) as file:
        await _write(transport, federation, session, file)
        file.flush()
        try:
            report = await asyncio.to_thread(verify, Path(file.name))
        except ArchiveError as error:
            raise ArchiveError(
                f"session {session} was not archived, as what the log holds of it is not whole: "
                f"{error}"
            ) from error
        _check_free(path, force=force)  # Somebody else may have written it meanwhile.
    return report


def _check_free(path: Path, *, force: bool) -> None:
    if path.is_dir() or (path.exists() and not force):
        raise ArchiveError(
            f"{path}: expected a new file, found one that exists; choose another name, or replace "
            "it with --force"
        )


async def federations_of(
    transport: Transport, session: str, *, wanted: str | None = None
) -> list[str]:
    """The federations of a log that have announced a session of this name.

    Args:
        transport: the log.
        session: its name.
        wanted: look at this federation alone.

    Raises:
        TransportError: the log cannot be read.
    """
    found = []
    for topic in await transport.topics("" if wanted is None else f"{wanted}{_LOBBY_SUFFIX}"):
        federation = topic.removesuffix(_LOBBY_SUFFIX)
        if topic.endswith(_LOBBY_SUFFIX) and wanted in (None, federation):
            async for record in _records(transport, topic, 0):
                if session_of(record.value) == session:
                    found.append(federation)
                    break
    return found


async def newest_session(transport: Transport, *, wanted: str | None = None) -> str | None:
    """The session of a log that was announced last; ``None`` when there is none.

    Args:
        transport: the log.
        wanted: look at this federation alone.

    Raises:
        TransportError: the log cannot be read.
    """
    announced: dict[str, int] = {}
    for topic in await transport.topics("" if wanted is None else f"{wanted}{_LOBBY_SUFFIX}"):
        if topic.endswith(_LOBBY_SUFFIX):
            async for record in _records(transport, topic, 0):
                if (session := session_of(record.value)) is not None:
                    announced.setdefault(session, record.timestamp_ms)
    # Reversed: of those of one millisecond, too, the last counts.
    return max(reversed(announced), key=lambda session: announced[session], default=None)


async def _federation_of(transport: Transport, session: str, wanted: str | None) -> str:
    found = await federations_of(transport, session, wanted=wanted)
    if not found:
        raise ArchiveError(f"session {session}: expected it in the log's lobby, found no such")
    if len(found) > 1:
        raise ArchiveError(
            f"session {session}: expected one federation, found {', '.join(found)}; choose one "
            "with --federation"
        )
    try:
        check_name(found[0], "federation")
        check_name(session, "session")
    except ValueError as error:
        raise ArchiveError(str(error)) from None
    return found[0]


async def _write(transport: Transport, federation: str, session: str, file: BinaryIO) -> None:
    writer = ArchiveWriter(file)
    selection = Selection(federation, session)
    topics = [(name, selection.of(name)) for name in await transport.topics(f"{federation}.")]
    chosen = [(name, part) for name, part in topics if part is not None]
    for topic, part in sorted(chosen, key=lambda each: each[1].role is not TopicRole.LINK):
        config = await transport.topic_config(topic)
        partitions = [
            await _write_partition(writer, transport, topic, number, part)
            for number in range(config.partitions)
        ]
        # A party that took no part in the session is not named.
        if part.role.is_whole or any(each.records for each in partitions):
            writer.add_topic(topic, config, tuple(partitions))
    writer.finish(federation, session)


async def _write_partition(
    writer: ArchiveWriter,
    transport: Transport,
    topic: str,
    number: int,
    selection: TopicSelection,
) -> ArchivedPartition:
    if selection.role.is_whole:
        await _check_start(transport, topic, number)
    partition = writer.partition(topic, number)
    async for record in _records(transport, topic, number):
        try:
            keeps = selection.keeps(record)
        except (FrameError, ValueError) as error:
            raise ArchiveError(f"{topic}[{number}], offset {record.offset}: {error}") from error
        if keeps:
            partition.add(record)
    return partition.finish()


async def _check_start(transport: Transport, topic: str, number: int) -> None:
    start = await transport.start_offset(topic, partition=number)
    if start:
        raise ArchiveError(
            f"{topic}[{number}]: expected its records from offset 0, found them from {start} on: "
            "retention has removed those before, so that this log can neither be archived nor "
            "replayed; keep links and schemas for ever"
        )


async def _records(transport: Transport, topic: str, number: int) -> AsyncIterator[StoredRecord]:
    """The records that a partition holds now."""
    offset = await transport.start_offset(topic, partition=number)
    end = await transport.end_offset(topic, partition=number)
    while offset < end:
        for record in await transport.read(topic, offset, partition=number):
            if record.offset >= end:
                return
            yield record
            offset = record.offset + 1
