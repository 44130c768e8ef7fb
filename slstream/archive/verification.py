"""Checks every byte and every record of an archive.

It finds damage: a byte that changed, a part that is missing, a record that was lost, added, moved
or taken from elsewhere. It does not find forgery: whoever changes records can write an archive
anew, with digests that fit. Compare the digest with that of a copy which you trust.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path

from slstream.archive.chunk import ArchivedRecord, PartitionName
from slstream.archive.contents import Selection, TopicRole, TopicSelection, json_object
from slstream.archive.envelope import RecordDigest
from slstream.archive.layout import MAGIC
from slstream.archive.reader import ArchiveFile
from slstream.errors import FrameError, UnknownSchema
from slstream.frames.link import FrameReader
from slstream.frames.topics import lobby_topic, schemas_topic
from slstream.schemas.registry import RegistryFold
from slstream.transport.contract import StoredRecord

OPEN = "open"
"""Outcome of a session that was not over when it was archived."""

_STEP_BYTES = 1_048_576
_CRC_BYTES = 4
_MAX_OUTCOME = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedPartition:
    """What was found in one partition."""

    topic: str
    partition: int
    role: TopicRole
    records: int
    frames: int
    """That stand; 0 where the records are no frames."""
    bytes: int
    """Sum of the sizes of all values."""
    sha256: str
    """See :class:`slstream.archive.envelope.RecordDigest`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveReport:
    """An archive that is intact."""

    federation: str
    session: str
    outcome: str
    """As the lobby says, or :data:`OPEN`."""
    created_by: str
    file_bytes: int
    schemas: int
    """Records of the registry's log."""
    links: int
    frames: int
    digest: str
    """Of the manifest: archives of a session have the same when all their records are the same,
    whatever release made them."""
    partitions: tuple[VerifiedPartition, ...]

    def to_json(self) -> str:
        """One JSON object, on one line."""
        return json.dumps(asdict(self))


def verify(path: Path) -> ArchiveReport:
    """Read an archive from its first to its last byte.

    Memory is bounded by the largest record, the largest frame and the registry.

    Raises:
        ArchiveError: it is not intact; says what, where, and what was expected.
    """
    with ArchiveFile(path) as archive:
        return _Verification(archive).run()


class _Verification:
    """One pass over an open archive."""

    def __init__(self, archive: ArchiveFile) -> None:
        self._archive = archive
        self._manifest = archive.manifest
        self._registry = RegistryFold()
        self._selection = Selection(self._manifest.federation, self._manifest.session)
        self._crc = 0

    def run(self) -> ArchiveReport:
        archive, manifest = self._archive, self._manifest
        # Before the rest: frames name the schemas.
        for record in self._log(schemas_topic(manifest.federation)):
            self._registry.apply(record.offset, record.value)
        outcome = self._outcome()
        found = self._check_data()
        self._check_summary()
        return ArchiveReport(
            federation=manifest.federation,
            session=manifest.session,
            outcome=outcome,
            created_by=manifest.created_by,
            file_bytes=archive.size,
            schemas=self._registry.next_offset,
            links=sum(entry.role is TopicRole.LINK for entry in found),
            frames=sum(entry.frames for entry in found),
            digest=manifest.digest,
            partitions=tuple(found),
        )

    def _log(self, topic: str) -> Iterator[StoredRecord]:
        """The records of a topic that all its readers fold, whose only partition is 0."""
        for place in self._archive.chunks_from((topic, 0), 0):
            for record in self._archive.records(place):
                yield self._archive.decode(record, place)

    def _outcome(self) -> str:
        """As the first close says that counts, see :class:`slstream.party.lobby.Lobby`."""
        session, federation = self._manifest.session, self._manifest.federation
        announced, outcome, newest = False, None, 0
        for record in self._log(lobby_topic(federation)):
            # Not through the protocol's own parser: messages of older releases count as well.
            message = json_object(record.value)
            kind, number = message.get("type"), message.get("incarnation")
            incarnation = number if isinstance(number, int) else 0
            if kind not in ("announce", "resume", "close") or incarnation < newest:
                continue  # of a fenced process, or nothing that counts
            if kind == "announce":
                if announced or message.get("federation") != federation:
                    continue
                announced = True
            elif kind == "close" and announced and outcome is None:
                outcome = str(message.get("outcome"))[:_MAX_OUTCOME]
            newest = incarnation
        if not announced:
            raise self._archive.damaged(
                f"{lobby_topic(federation)}: expected an announcement of session {session}, "
                "found none"
            )
        return OPEN if outcome is None else outcome

    def _check_data(self) -> list[VerifiedPartition]:
        """All before the summary, in the order of the file."""
        archive = self._archive
        self._fold_crc(0, archive.chunks_start)
        found = [
            self._check_of(name).finish()
            for name, expected in archive.partitions.items()
            if not expected.records
        ]
        for name, places in groupby(archive.chunks, key=lambda place: place.name):
            check = self._check_of(name)
            for place in places:
                raw = archive.read(place.position, place.length)
                self._crc = zlib.crc32(raw, self._crc)
                for record in archive.records_in(raw, place):
                    check.add(record, archive.decode(record, place))
            found.append(check.finish())
        self._fold_crc(archive.chunks_end, archive.data_end)
        if self._crc != archive.data_crc:
            raise archive.damaged(
                f"expected all before byte {archive.data_end} to have the CRC "
                f"{archive.data_crc:08x}, found {self._crc:08x}"
            )
        by_name = {(entry.topic, entry.partition): entry for entry in found}
        return [by_name[name] for name in archive.partitions]

    def _check_summary(self) -> None:
        archive, self._crc = self._archive, 0
        # The footer belongs to it, up to the CRC, in front of the magic bytes.
        self._fold_crc(archive.summary_start, archive.size - len(MAGIC) - _CRC_BYTES)
        if self._crc != archive.footer.summary_crc:
            raise archive.damaged(
                f"expected the summary to have the CRC {archive.footer.summary_crc:08x}, "
                f"found {self._crc:08x}"
            )

    def _fold_crc(self, position: int, end: int) -> None:
        while position < end:
            part = self._archive.read(position, min(_STEP_BYTES, end - position))
            self._crc = zlib.crc32(part, self._crc)
            position += len(part)

    def _check_of(self, name: PartitionName) -> _PartitionCheck:
        selection = self._selection.of(name[0])
        if selection is None:  # the manifest was checked
            raise self._archive.damaged(f"{name[0]}: expected a topic of the session")
        return _PartitionCheck(self._archive, self._registry, selection, name)


class _PartitionCheck:
    """The records of one partition against the manifest and against what its topic is for."""

    def __init__(
        self,
        archive: ArchiveFile,
        registry: RegistryFold,
        selection: TopicSelection,
        name: PartitionName,
    ) -> None:
        self._archive = archive
        self._registry = registry
        self._selection = selection
        self._topic, self._partition = name
        self._expected = archive.partitions[name]
        self._reader = FrameReader()
        self._digest = RecordDigest()
        self._records = self._value_bytes = 0

    def add(self, record: ArchivedRecord, stored: StoredRecord) -> None:
        """Take the next record."""
        self._digest.add(record.timestamp_ms, record.data)
        self._records += 1
        self._value_bytes += len(stored.value)
        try:
            self._look(stored)
        except (ValueError, FrameError, UnknownSchema) as error:
            raise self._archive.damaged(
                f"{self._topic}[{self._partition}], offset {record.offset}: {error}"
            ) from error

    def _look(self, record: StoredRecord) -> None:
        """What the topic's own readers demand."""
        if not self._selection.keeps(record):
            raise ValueError(
                f"expected a record of session {self._archive.manifest.session}, found another"
            )
        if self._selection.role is TopicRole.LINK:
            self._add_frame(record.value)

    def _add_frame(self, value: bytes) -> None:
        frame = self._reader.push(value)
        if frame is None:
            return
        schema = self._registry.get(frame.schema_id)
        if schema.kind != frame.kind.label:
            raise ValueError(
                f"schema {frame.schema_id}: expected one of {frame.kind.label} frames, found one "
                f"of {schema.kind} frames"
            )

    def finish(self) -> VerifiedPartition:
        """Compare the sums; there are no more records."""
        found = {
            "records": self._records,
            "value_bytes": self._value_bytes,
            "sha256": self._digest.hexdigest(),
        }
        for field, value in found.items():
            expected = getattr(self._expected, field)
            if value != expected:
                raise self._archive.damaged(
                    f"{self._topic}[{self._partition}]: expected {field} {expected} as the "
                    f"manifest says, found {value}"
                )
        return VerifiedPartition(
            topic=self._topic,
            partition=self._partition,
            role=self._selection.role,
            records=self._records,
            frames=self._reader.statistics.frames,
            bytes=self._value_bytes,
            sha256=self._expected.sha256,
        )
