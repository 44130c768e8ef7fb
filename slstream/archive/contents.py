"""Which topics of a federation belong in the archive of a session, and which of their records.

============  =======================================================================
links         whole: every frame that was exchanged in the session
schemas       whole: the id of a schema is its offset plus one, so none may be missing.
              They tell the shapes and codecs of other sessions of the federation too
lobby         the records of this session: who else trained when is nobody's business
divergences   the same
incarnations  those whose number is in a frame of this session; the number is the offset plus one
telemetry     none: nothing is decided by it
============  =======================================================================

Where other sessions' records were left out the offsets have holes, as in a compacted topic of
Kafka; the end offset is behind the last record that was kept, whatever followed it in the log.
"""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Any

from slstream.frames.header import decode_header
from slstream.frames.topics import lobby_topic, parse_link_topic, schemas_topic
from slstream.transport.contract import StoredRecord

_MAX_JSON_BYTES = 1_048_576

MAX_INCARNATIONS = 65_536
"""Starts of one party's process in one session."""


class TopicRole(StrEnum):
    """What a topic is for."""

    LINK = "link"
    SCHEMAS = "schemas"
    LOBBY = "lobby"
    INCARNATIONS = "incarnations"
    DIVERGENCES = "divergences"

    @property
    def is_whole(self) -> bool:
        """Whether all records are kept, so that the offsets have no holes."""
        return self in (TopicRole.LINK, TopicRole.SCHEMAS)


def role_of(topic: str, federation: str, session: str) -> TopicRole | None:
    """The role of a topic for one session; ``None`` when it has none."""
    if topic == lobby_topic(federation):
        return TopicRole.LOBBY
    if topic == schemas_topic(federation):
        return TopicRole.SCHEMAS
    for role in (TopicRole.INCARNATIONS, TopicRole.DIVERGENCES):
        if topic.startswith(f"{federation}.{role}."):
            return role
    try:
        link = parse_link_topic(topic)
    except ValueError:
        return None
    ours = (link.federation, link.session) == (federation, session)
    return TopicRole.LINK if ours else None


class Selection:
    """Which records belong in the archive of a session. Must see the links' records first."""

    def __init__(self, federation: str, session: str) -> None:
        self._federation = federation
        self._session = session
        self._incarnations: dict[str, set[int]] = {}

    def of(self, topic: str) -> TopicSelection | None:
        """The part for a topic; ``None`` when nothing of it belongs there."""
        role = role_of(topic, self._federation, self._session)
        if role is None:
            return None
        party = ""
        if role is TopicRole.LINK:
            party = parse_link_topic(topic).sender
        elif role is TopicRole.INCARNATIONS:
            party = topic.rpartition(".")[2]
        incarnations = self._incarnations.setdefault(party, set())
        return TopicSelection(role, self._session, incarnations)


class TopicSelection:
    """Which records of one topic belong in the archive."""

    def __init__(self, role: TopicRole, session: str, incarnations: set[int]) -> None:
        """Use :meth:`Selection.of`.

        Args:
            role: of the topic.
            session: the one that is archived.
            incarnations: of the party that the topic is about; links add to it.
        """
        self.role = role
        self._session = session
        self._incarnations = incarnations

    def keeps(self, record: StoredRecord) -> bool:
        """Whether a record belongs there.

        Raises:
            FrameError: a record of a link that is no part of a frame.
            ValueError: more incarnations than a session can have for good reasons.
        """
        if self.role is TopicRole.LINK:
            self._incarnations.add(decode_header(record.value).incarnation)
            if len(self._incarnations) > MAX_INCARNATIONS:
                raise ValueError(f"expected at most {MAX_INCARNATIONS} incarnations, found more")
        elif self.role is TopicRole.INCARNATIONS:
            return record.offset + 1 in self._incarnations
        elif not self.role.is_whole:
            return session_of(record.value) == self._session
        return True


def session_of(value: bytes) -> str | None:
    """The session that a plain JSON record is about; ``None`` when it is no such record."""
    found = json_object(value).get("session")
    return found if isinstance(found, str) else None


def json_object(value: bytes) -> dict[str, Any]:
    """The object that a plain JSON record holds; empty when it is no such record."""
    if len(value) > _MAX_JSON_BYTES:
        return {}
    try:
        document: Any = json.loads(value)
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}
