"""What an archive says about itself: a closed JSON object, the attachment ``manifest.json``."""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from slstream.archive.contents import TopicRole, role_of
from slstream.frames.topics import check_name
from slstream.transport.contract import TopicConfig
from slstream.transport.topics import check_topic

FORMAT = 1
MANIFEST_NAME = "manifest.json"
MANIFEST_MEDIA_TYPE = "application/json"
MAX_MANIFEST_BYTES = 4_194_304
"""Room for some ten thousand partitions."""

_Count = Annotated[int, Field(ge=0, lt=2**53)]
_Hash = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class _Closed(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class ArchivedPartition(_Closed):
    """The records of one partition; all offsets count from 0."""

    records: _Count
    end_offset: _Count
    """One more than the offset of the last record."""
    value_bytes: _Count
    """Sum of the sizes of all values."""
    sha256: _Hash
    """Over all records, see :class:`slstream.archive.envelope.RecordDigest`."""


class ArchivedTopic(_Closed):
    """A topic: its settings in the log, and its records."""

    topic: Annotated[str, Field(max_length=200)]
    retention_ms: _Count | None
    retention_bytes: _Count | None
    max_record_bytes: _Count
    partitions: Annotated[tuple[ArchivedPartition, ...], Field(min_length=1, strict=False)]

    @property
    def config(self) -> TopicConfig:
        """The settings as a transport states them."""
        return TopicConfig(
            partitions=len(self.partitions),
            retention_ms=self.retention_ms,
            retention_bytes=self.retention_bytes,
            max_record_bytes=self.max_record_bytes,
        )


class Manifest(_Closed):
    """The contents of an archive."""

    format: Literal[1]
    federation: str
    session: str
    created_by: Annotated[str, Field(max_length=100)]
    """Program and version; nothing is decided by it."""
    topics: Annotated[tuple[ArchivedTopic, ...], Field(strict=False)]
    """The links first, each sort by name. The file has the same order: what else belongs in an
    archive depends on the links."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        check_name(self.federation, "federation")
        check_name(self.session, "session")
        roles = {entry.topic: self._role(entry.topic) for entry in self.topics}
        order = sorted(roles, key=lambda name: (roles[name] is not TopicRole.LINK, name))
        if [entry.topic for entry in self.topics] != order:
            raise ValueError("topics: expected each once, links first, in the order of names")
        for entry in self.topics:
            check_topic(entry.topic, entry.config)
            for found in entry.partitions:
                _check_counts(entry.topic, roles[entry.topic], found)
        for needed in (TopicRole.LOBBY, TopicRole.SCHEMAS):
            if needed not in roles.values():
                raise ValueError(f"topics: expected the {needed} topic, found none")
        return self

    def _role(self, topic: str) -> TopicRole:
        role = role_of(topic, self.federation, self.session)
        if role is None:
            raise ValueError(f"topics: expected those of {self.session}, found {topic!r:.250}")
        return role

    def to_json(self) -> bytes:
        """The one spelling of this manifest: sorted keys, no white space, ASCII."""
        return _canonical(self.model_dump(mode="json"))

    @property
    def digest(self) -> str:
        """SHA-256 of :meth:`to_json` without ``created_by``: stands for every record."""
        contents = self.model_dump(mode="json", exclude={"created_by"})
        return hashlib.sha256(_canonical(contents)).hexdigest()

    @classmethod
    def from_json(cls, data: bytes) -> Self:
        """Read foreign bytes.

        Raises:
            ValueError: not a manifest of this format; names the field.
        """
        if len(data) > MAX_MANIFEST_BYTES:
            raise ValueError(f"expected at most {MAX_MANIFEST_BYTES} bytes, found {len(data)}")
        try:
            document: Any = json.loads(data)
        except RecursionError:
            raise ValueError("expected a JSON object, found far too many levels") from None
        found = document.get("format") if isinstance(document, dict) else None
        if found != FORMAT:
            raise ValueError(
                f"format: this release reads archives of format {FORMAT}, found {found!r:.40}"
            )
        try:
            manifest = cls.model_validate(document)
        except ValidationError as error:
            raise ValueError(first_problem(error)) from None
        # Among others a repeated key, which JSON parsers read differently.
        if manifest.to_json() != data:
            raise ValueError("expected sorted keys, each once, and no white space")
        return manifest


def _canonical(document: dict[str, Any]) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


def first_problem(error: ValidationError) -> str:
    """The field that is wrong first, and what was expected of it."""
    first = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in first["loc"]) or "manifest"
    return f"{where}: {first['msg']}"


def _check_counts(topic: str, role: TopicRole, found: ArchivedPartition) -> None:
    whole = found.records == found.end_offset
    if found.records > found.end_offset or (role.is_whole and not whole):
        raise ValueError(
            f"{topic}: expected {found.end_offset} records up to offset {found.end_offset}, "
            f"found {found.records}"
        )
