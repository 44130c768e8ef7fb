"""Which topics of a federation belong in the archive of a session, and which of their records.

============  =======================================================================
links         whole: every frame that was exchanged in the session
schemas       whole: the id of a schema is its offset plus one, so none may be missing.
              They tell the shapes and codecs of other sessions of the federation too
lobby         the records of this session: who else trained when is nobody's business
incarnations  the same: offsets, which number the incarnations, stay as they were
divergences   the same
telemetry     not at all: nothing is decided by it
============  =======================================================================

Where other sessions' records were left out the offsets have holes, as in a compacted topic of
Kafka; the end offset is behind the last record that was kept, whatever followed it in the log.
"""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Any

from slstream.frames.topics import lobby_topic, parse_link_topic, schemas_topic

_MAX_JSON_BYTES = 1_048_576


class TopicRole(StrEnum):
    """What a topic is for."""

    LINK = "link"
    SCHEMAS = "schemas"
    LOBBY = "lobby"
    INCARNATIONS = "incarnations"
    DIVERGENCES = "divergences"

    @property
    def is_whole(self) -> bool:
        """Whether all records are kept; otherwise those that name the session."""
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


def names_session(value: bytes, session: str) -> bool:
    """Whether a plain JSON record is about a session: its field ``session`` says so."""
    return session_of(value) == session


def session_of(value: bytes) -> str | None:
    """The session that a plain JSON record is about; ``None`` when it is no such record."""
    if len(value) > _MAX_JSON_BYTES:
        return None
    try:
        document: Any = json.loads(value)
    except (ValueError, RecursionError):
        return None
    found = document.get("session") if isinstance(document, dict) else None
    return found if isinstance(found, str) else None
