"""Which new version of a schema a subject may take.

"A reader of X decodes data written with Y" means here: the frame layout, kind, tensor name, dtype,
shape template and content are equal, and every codec id of Y is known to the reader. Codec chains
and their parameters may differ, because each frame names the schema that it was written with and
the reader decodes by that one.

The rules have Confluent's names: BACKWARD (readers of the new version decode data of the old),
FORWARD (readers of the old decode data of the new), FULL (both), each against the latest version
or, TRANSITIVE, against all; NONE.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from slstream.errors import IncompatibleSchema
from slstream.schemas.document import Schema, TensorSchema


class Compatibility(StrEnum):
    """A rule; its value is what registries call it."""

    NONE = "NONE"
    BACKWARD = "BACKWARD"
    BACKWARD_TRANSITIVE = "BACKWARD_TRANSITIVE"
    FORWARD = "FORWARD"
    FORWARD_TRANSITIVE = "FORWARD_TRANSITIVE"
    FULL = "FULL"
    FULL_TRANSITIVE = "FULL_TRANSITIVE"


_BACKWARD = {
    Compatibility.BACKWARD,
    Compatibility.BACKWARD_TRANSITIVE,
    Compatibility.FULL,
    Compatibility.FULL_TRANSITIVE,
}
_FORWARD = {
    Compatibility.FORWARD,
    Compatibility.FORWARD_TRANSITIVE,
    Compatibility.FULL,
    Compatibility.FULL_TRANSITIVE,
}
_TRANSITIVE = {
    Compatibility.BACKWARD_TRANSITIVE,
    Compatibility.FORWARD_TRANSITIVE,
    Compatibility.FULL_TRANSITIVE,
}
_EQUAL_FIELDS = ("frame", "kind", "tensor", "dtype", "content")


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One reason why a reader cannot decode."""

    path: str
    """Field of the schema documents, as in ``shape[1]``."""
    expected: str
    """What the reader decodes."""
    found: str
    """What the data was written with."""
    version: int | None = None
    """Number, from 1, of the old version that it concerns."""

    def __str__(self) -> str:
        against = "" if self.version is None else f" (against version {self.version})"
        return f"{self.path}: expected {self.expected}, found {self.found}{against}"


def reading_differences(
    reader: Schema, writer: Schema, known_codecs: Collection[str]
) -> tuple[Difference, ...]:
    """Why a reader of ``reader`` cannot decode data written with ``writer``; empty when it can.

    Args:
        reader: what is expected.
        writer: what the data was written with.
        known_codecs: ids that the reader can decode.
    """
    return tuple(_reading_differences(reader, writer, known_codecs, None))


def compatibility_differences(
    new: Schema,
    versions: Sequence[Schema],
    compatibility: Compatibility,
    known_codecs: Collection[str],
) -> tuple[Difference, ...]:
    """Why ``new`` may not follow ``versions``; empty when it may.

    Args:
        new: the candidate.
        versions: the versions of its subject, oldest first; may be empty.
        compatibility: the rule of the subject.
        known_codecs: ids that all readers can decode.
    """
    first = 0 if compatibility in _TRANSITIVE else max(0, len(versions) - 1)
    found: dict[Difference, None] = {}
    for number, old in enumerate(versions[first:], first + 1):
        if compatibility in _BACKWARD:
            found |= dict.fromkeys(_reading_differences(new, old, known_codecs, number))
        if compatibility in _FORWARD:
            found |= dict.fromkeys(_reading_differences(old, new, known_codecs, number))
    return tuple(found)


def check_compatible(
    new: Schema,
    versions: Sequence[Schema],
    compatibility: Compatibility,
    known_codecs: Collection[str],
) -> None:
    """Refuse a version that its subject may not take; arguments as above.

    Raises:
        IncompatibleSchema: the message names every field that differs.
    """
    found = compatibility_differences(new, versions, compatibility, known_codecs)
    if found:
        raise IncompatibleSchema(
            f"schema {new.subject} is not {compatibility} compatible: "
            + "; ".join(str(difference) for difference in found)
        )


def _reading_differences(
    reader: Schema, writer: Schema, known_codecs: Collection[str], version: int | None
) -> Iterator[Difference]:
    def difference(path: str, expected: object, found: object) -> Difference:
        return Difference(path=path, expected=str(expected), found=str(found), version=version)

    read, written = reader.document(), writer.document()
    for field in _EQUAL_FIELDS:
        if read.get(field) != written.get(field):
            yield difference(field, read.get(field), written.get(field))
    if isinstance(writer, TensorSchema):
        if isinstance(reader, TensorSchema):
            for path, expected, found in _shape_differences(reader.row_shape, writer.row_shape):
                yield difference(path, expected, found)
        for index, codec_id in enumerate(writer.codec_ids):
            if codec_id not in known_codecs:
                known = "one of " + ", ".join(sorted(known_codecs)) if known_codecs else "no codec"
                yield difference(f"codec[{index}].id", known, codec_id)


def _shape_differences(
    reader: tuple[int, ...], writer: tuple[int, ...]
) -> Iterator[tuple[str, object, object]]:
    if len(reader) != len(writer):
        yield "shape", f"{len(reader) + 1} dimensions", f"{len(writer) + 1} dimensions"
        return
    for index, (expected, found) in enumerate(zip(reader, writer, strict=True), 1):
        if expected != found:
            yield f"shape[{index}]", expected, found
