"""The schema registry: a fold over the records of a federation's ``.schemas`` log.

There is no server to ask: the id of a schema is the offset, plus one, of the record in which it
first appears. Whoever reads the log computes the same ids, and two parties that append one schema
at the same time both get the id of the earlier record.
"""

from __future__ import annotations

from dataclasses import dataclass

from slstream.errors import InvalidSchema, UnknownSchema
from slstream.schemas.document import Schema

MAX_REGISTRY_BYTES = 67_108_864
"""Sum of the canonical texts of all schemas. Documents beyond it are skipped by every reader
alike, so that whoever may write to the log cannot exhaust its readers' memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RegisteredSchema:
    """A schema and its place in the registry."""

    schema_id: int
    """1 or more: what frames name it by."""
    version: int
    """From 1, within its subject."""
    schema: Schema


class RegistryFold:
    """Folds the log, record by record. Pure; not for several threads at once."""

    def __init__(self) -> None:
        """Start before offset 0."""
        self._next_offset = 0
        self._bytes = 0
        self._skipped = 0
        self._by_id: dict[int, RegisteredSchema] = {}
        self._ids: dict[Schema, int] = {}
        self._subjects: dict[str, list[RegisteredSchema]] = {}

    @property
    def next_offset(self) -> int:
        """Offset of the record to apply next."""
        return self._next_offset

    @property
    def skipped(self) -> int:
        """Records that were not valid schemas; they occupy offsets but have no ids."""
        return self._skipped

    def apply(self, offset: int, value: bytes) -> int | None:
        """Fold one record; the id of its schema, ``None`` when it was skipped.

        Args:
            offset: must be :attr:`next_offset`: ids mean nothing when a record is missing.
            value: foreign bytes.

        Raises:
            ValueError: ``offset`` is another.
        """
        if offset != self._next_offset:
            raise ValueError(
                f"registry log: expected the record at offset {self._next_offset}, found {offset}; "
                "the log must be folded from its first record, and kept for ever"
            )
        self._next_offset += 1
        try:
            schema = Schema.from_json(value)
        except InvalidSchema:
            self._skipped += 1
            return None
        known = self._ids.get(schema)
        if known is not None:
            return known
        size = len(schema.canonical_json())
        if self._bytes + size > MAX_REGISTRY_BYTES:
            self._skipped += 1
            return None
        self._bytes += size
        versions = self._subjects.setdefault(schema.subject, [])
        registered = RegisteredSchema(
            schema_id=offset + 1, version=len(versions) + 1, schema=schema
        )
        versions.append(registered)
        self._by_id[registered.schema_id] = registered
        self._ids[schema] = registered.schema_id
        return registered.schema_id

    def get(self, schema_id: int) -> Schema:
        """The schema of an id.

        Raises:
            UnknownSchema: no record so far gave this id.
        """
        try:
            return self._by_id[schema_id].schema
        except KeyError:
            raise UnknownSchema(f"schema id {schema_id}: expected one of {self._known()}") from None

    def id_of(self, schema: Schema) -> int:
        """The id of an equal schema.

        Raises:
            UnknownSchema: no record so far held it.
        """
        try:
            return self._ids[schema]
        except KeyError:
            raise UnknownSchema(
                f"schema {schema.subject} with fingerprint {schema.fingerprint}: expected one of "
                f"{self._known()}"
            ) from None

    def versions(self, subject: str) -> tuple[RegisteredSchema, ...]:
        """The versions of a subject, oldest first; empty for an unknown subject."""
        return tuple(self._subjects.get(subject, ()))

    def subjects(self) -> tuple[str, ...]:
        """Names of all subjects, sorted."""
        return tuple(sorted(self._subjects))

    def _known(self) -> str:
        """What is known, in a few words, for messages."""
        if not self._by_id:
            return f"none, as no schema is registered in {self._next_offset} records"
        ids = list(self._by_id)
        shown = ", ".join(map(str, ids[-8:]))
        return (
            f"the {len(ids)} ids registered in {self._next_offset} records "
            f"({'..., ' if len(ids) > 8 else ''}{shown})"
        )
