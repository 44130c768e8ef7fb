"""An archive file: where its chunks lie, and their records, within bounded memory.

Opening looks at the start of each chunk only, so that archives of many GB open at once. What it
accepts has the right structure and a manifest that fits it; that the records are those that were
written is checked for each chunk by its CRC when it is read, and for all of them by
:func:`slstream.archive.verification.verify`.
"""

from __future__ import annotations

import os
import threading
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from mcap.opcode import Opcode
from mcap.records import Attachment, DataEnd, Footer, Header

from slstream.archive.chunk import (
    PEEK_BYTES,
    ArchivedRecord,
    ChunkPlace,
    PartitionName,
    chunk_place,
    records_of,
)
from slstream.archive.contents import TopicRole, role_of
from slstream.archive.envelope import decode_record
from slstream.archive.layout import (
    CHUNK_BYTES,
    FOOTER_BYTES,
    MAGIC,
    MAX_CHUNK_BYTES,
    MAX_SMALL_BYTES,
    PROFILE,
    RECORD_HEAD,
    McapRecord,
    parse,
)
from slstream.archive.manifest import (
    MANIFEST_MEDIA_TYPE,
    MANIFEST_NAME,
    MAX_MANIFEST_BYTES,
    ArchivedPartition,
    Manifest,
)
from slstream.errors import ArchiveError
from slstream.transport.contract import StoredRecord

R = TypeVar("R", bound=McapRecord)


class ArchiveFile:
    """An open archive; several threads may read it."""

    def __init__(self, path: Path) -> None:
        """Open a file, find its chunks, and read its manifest.

        Raises:
            ArchiveError: not an archive, or one whose structure is damaged.
        """
        self.path = path
        self._lock = threading.Lock()
        self.chunks: list[ChunkPlace] = []
        self._by_partition: dict[PartitionName, list[ChunkPlace]] = {}
        self.partitions: dict[PartitionName, ArchivedPartition] = {}
        try:
            self._descriptor: int | None = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            self.size = os.fstat(self._descriptor).st_size
        except OSError as error:
            raise ArchiveError(f"cannot open the archive {path}: {error.strerror}") from error
        try:
            self._read_ends()
            self._read_data_section()
            self._check_partitions()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Release the file. Idempotent."""
        with self._lock:
            if self._descriptor is not None:
                os.close(self._descriptor)
                self._descriptor = None

    def damaged(self, what: str) -> ArchiveError:
        """The error to raise where the file is not what it must be."""
        return ArchiveError(
            f"archive {self.path}: {what}; the file is damaged, or was not written by slstream: "
            "use another copy, or export the session again"
        )

    def role(self, topic: str) -> TopicRole:
        """What a topic of the manifest is for."""
        role = role_of(topic, self.manifest.federation, self.manifest.session)
        if role is None:  # the manifest was checked
            raise self.damaged(f"topic {topic} is not of session {self.manifest.session}")
        return role

    def chunks_from(self, name: PartitionName, offset: int) -> Sequence[ChunkPlace]:
        """The chunks of a partition from the one that may hold ``offset`` on."""
        places = self._by_partition.get(name, [])
        index = bisect_right(places, offset, key=lambda place: place.first_offset)
        return places[max(0, index - 1) :]

    def records(self, place: ChunkPlace) -> list[ArchivedRecord]:
        """The records of a chunk, whose order and completeness were checked.

        Raises:
            ArchiveError: the chunk is damaged.
        """
        return self.records_in(self.read(place.position, place.length), place)

    def records_in(self, raw: bytes, place: ChunkPlace) -> list[ArchivedRecord]:
        """The same for the bytes of a chunk.

        Raises:
            ArchiveError: the chunk is damaged.
        """
        topic, partition = place.name
        try:
            found = list(records_of(raw, place))
            self._check_offsets([record.offset for record in found], place)
        except ValueError as error:
            raise self.damaged(f"{topic}[{partition}]: byte {place.position}: {error}") from None
        return found

    def decode(self, record: ArchivedRecord, place: ChunkPlace) -> StoredRecord:
        """A record of a chunk as the log held it.

        Raises:
            ArchiveError: its envelope is damaged.
        """
        topic, partition = place.name
        try:
            return decode_record(
                record.data, topic=topic, partition=partition, timestamp_ms=record.timestamp_ms
            )
        except ValueError as error:
            raise self.damaged(f"{topic}[{partition}], offset {record.offset}: {error}") from None

    def read(self, position: int, size: int) -> bytes:
        """Exactly ``size`` bytes of the file.

        Raises:
            ArchiveError: it ends before, or cannot be read.
        """
        return b"".join(self._parts(position, size))

    def _parts(self, position: int, size: int) -> Iterator[bytes]:
        while size > 0:
            try:
                with self._lock:
                    if self._descriptor is None:
                        raise ArchiveError(f"archive {self.path}: it was closed by this process")
                    part = os.pread(self._descriptor, size, position)
            except OSError as error:
                raise ArchiveError(f"archive {self.path}: cannot read: {error}") from error
            if not part:
                raise self.damaged(f"expected {size} more bytes at {position}, found its end")
            yield part
            position += len(part)
            size -= len(part)

    # Structure, see slstream.archive.layout -------------------------------------------------------

    def _read_ends(self) -> None:
        start = self.read(0, min(self.size, len(MAGIC)))
        if start != MAGIC:
            raise ArchiveError(
                f"archive {self.path}: expected a file that `slstream archive export` wrote, which "
                f"begins with the bytes {MAGIC.hex(' ')}, found {start.hex(' ') or 'an empty one'}"
            )
        self.footer_start = self.size - len(MAGIC) - FOOTER_BYTES
        if self.footer_start < len(MAGIC):
            raise self.damaged(f"expected an archive, found {self.size} bytes")
        end = self.read(self.footer_start, FOOTER_BYTES + len(MAGIC))
        if not end.endswith(MAGIC):
            raise self.damaged("expected it to end with MCAP's magic bytes, found others")
        self.footer = self._parse(Footer, end[: -len(MAGIC)])

    def _read_data_section(self) -> None:
        raw = self._record(len(MAGIC), Opcode.HEADER, MAX_SMALL_BYTES)
        if self._parse(Header, raw).profile != PROFILE:
            raise ArchiveError(
                f"archive {self.path}: expected the MCAP profile {PROFILE!r}, found another: it is "
                "a recording of something else"
            )
        self.chunks_start = position = len(MAGIC) + len(raw)
        while self._opcode(position) == Opcode.CHUNK:
            position += self._find_chunk(position)
        self.chunks_end = position
        raw = self._record(position, Opcode.ATTACHMENT, MAX_MANIFEST_BYTES + MAX_SMALL_BYTES)
        self.manifest = self._manifest(raw)
        self.data_end = position + len(raw)
        raw = self._record(self.data_end, Opcode.DATA_END, 4)
        self.data_crc: int = self._parse(DataEnd, raw).data_section_crc
        self.summary_start = self.data_end + len(raw)
        if self.footer.summary_start != self.summary_start:
            raise self.damaged(
                f"footer: expected the summary at byte {self.summary_start}, found "
                f"{self.footer.summary_start}"
            )

    def _find_chunk(self, position: int) -> int:
        """Note the chunk at a position; its length."""
        length = self._length(position, Opcode.CHUNK, MAX_CHUNK_BYTES)
        previous = self.chunks[-1] if self.chunks else None
        start = self.read(position, min(length, PEEK_BYTES))
        try:
            place = chunk_place(start, position=position, length=length, previous=previous)
            if not place.begins_partition and previous is not None:
                _check_next(place, previous)
        except ValueError as error:
            raise self.damaged(f"byte {position}: {error}") from None
        if place.begins_partition and place.name in self._by_partition:
            raise self.damaged(f"byte {position}: expected a new partition, found {place.name}")
        self.chunks.append(place)
        self._by_partition.setdefault(place.name, []).append(place)
        return length

    def _manifest(self, raw: bytes) -> Manifest:
        found = self._parse(Attachment, raw)
        if (found.name, found.media_type) != (MANIFEST_NAME, MANIFEST_MEDIA_TYPE):
            raise self.damaged(
                f"expected the attachment {MANIFEST_NAME}, found {found.name!r:.80} of type "
                f"{found.media_type!r:.80}"
            )
        try:
            return Manifest.from_json(found.data)
        except ValueError as error:
            raise self.damaged(f"{MANIFEST_NAME}: {error}") from None

    def _check_partitions(self) -> None:
        self.partitions = {
            (entry.topic, number): found
            for entry in self.manifest.topics
            for number, found in enumerate(entry.partitions)
        }
        filled = [name for name, found in self.partitions.items() if found.records]
        if filled != list(self._by_partition):
            different = set(filled).symmetric_difference(self._by_partition)
            raise self.damaged(
                f"expected the partitions of {MANIFEST_NAME} in their order, found others: "
                f"{sorted(different)[:4] or 'another order'}"
            )

    def _check_offsets(self, offsets: list[int], place: ChunkPlace) -> None:
        """Compare a chunk's offsets with the chunk behind it, or with the manifest's end."""
        places = self._by_partition[place.name]
        index = bisect_right(places, place.first_offset, key=lambda each: each.first_offset)
        is_last = index == len(places)
        end = self.partitions[place.name].end_offset if is_last else places[index].first_offset
        whole = self.role(place.name[0]).is_whole
        expected = range(0 if index == 1 and whole else place.first_offset, end)
        ordered = all(low < high for low, high in zip(offsets, [*offsets[1:], end], strict=True))
        # No more of it than could be equal: how far it reaches is the file's own claim.
        if whole and offsets != list(expected[: len(offsets) + 1]):
            raise ValueError(
                f"expected the records from offset {expected.start} to {end - 1} without a gap, "
                f"found {len(offsets)} from {offsets[0]} to {offsets[-1]}"
            )
        if not ordered or (is_last and offsets[-1] != end - 1):
            raise ValueError(f"expected rising offsets below {end}, found others")

    def _opcode(self, position: int) -> int:
        return self.read(position, 1)[0]

    def _record(self, position: int, expected: Opcode, most: int) -> bytes:
        """A whole MCAP record, with opcode and length."""
        return self.read(position, self._length(position, expected, most))

    def _length(self, position: int, expected: Opcode, most: int) -> int:
        """Length of an MCAP record, with opcode and length; it ends before the footer."""
        head = self.read(position, RECORD_HEAD.size)
        opcode, length = RECORD_HEAD.unpack(head)
        most = min(most, self.footer_start - position - RECORD_HEAD.size)
        if opcode != expected or length > most:
            raise self.damaged(
                f"byte {position}: expected a record {expected.name} of at most {most} bytes, "
                f"found opcode {opcode} and a claim of {length} bytes"
            )
        return RECORD_HEAD.size + int(length)

    def _parse(self, kind: type[R], raw: bytes) -> R:
        try:
            return parse(kind, raw)
        except ValueError as error:
            raise self.damaged(str(error)) from None


def _check_next(place: ChunkPlace, previous: ChunkPlace) -> None:
    """What keeps the number of chunks, and with it the memory of whoever opens a file, small."""
    if previous.content_bytes <= CHUNK_BYTES:
        raise ValueError(
            f"chunk: expected the one before to hold more than {CHUNK_BYTES} bytes, found "
            f"{previous.content_bytes}"
        )
    if place.first_offset <= previous.first_offset:
        raise ValueError(
            f"chunk: expected it to begin behind offset {previous.first_offset}, found "
            f"{place.first_offset}"
        )
