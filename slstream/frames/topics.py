"""Names of topics, and of what they are made of.

::

    <federation>.<sender>-to-<receiver>.<session>   frames of one link
    <federation>.lobby                              announcements of sessions
    <federation>.schemas                            log of the schema registry
    <federation>.telemetry.<party>                  progress of one party, for monitors
    <federation>.incarnations.<party>               one record per start of a party's process
    <federation>.divergences.<party>                where a party recomputed other bits

Kafka's prefix ACLs can therefore say "bob may write ``credit.bob-to-``, alice may read
``credit.bob-to-alice.``". Names of federations, parties and sessions hold no dot and not the word
"to", so every topic name reads back in one way only.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

MAX_NAME_LENGTH = 40
"""Four names and their separators stay below the 200 characters of a transport's topic names."""

_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_LINK = re.compile(r"([^.]+)\.([^.]+)-to-([^.]+)\.([^.]+)")
_TELEMETRY = re.compile(r"([^.]+)\.telemetry\.([^.]+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkName:
    """What the name of a link's topic says."""

    federation: str
    sender: str
    receiver: str
    session: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TelemetryName:
    """What the name of a telemetry topic says."""

    federation: str
    party: str


def check_name(name: str, what: str) -> str:
    """Return a name that may be part of a topic's.

    Args:
        name: words of lower-case ASCII letters and digits, joined by single hyphens; at most 40
            characters; no word may be "to".
        what: ``federation``, ``party`` or ``session``; for the message.

    Raises:
        ValueError: the name is anything else.
    """
    if len(name) > MAX_NAME_LENGTH:
        raise ValueError(
            f"{what} name: expected at most {MAX_NAME_LENGTH} characters, found {len(name)} in "
            f"{name[:MAX_NAME_LENGTH]!r}..."
        )
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"{what} name: expected lower-case letters and digits, with single hyphens between "
            f"them (such as 'north-bank2'), found {name!r}"
        )
    if "to" in name.split("-"):
        raise ValueError(
            f"{what} name: expected no word 'to', which separates sender and receiver in topic "
            f"names, found {name!r}"
        )
    return name


def link_topic(federation: str, sender: str, receiver: str, session: str) -> str:
    """Topic of the frames that ``sender`` sends to ``receiver`` in one session.

    Raises:
        ValueError: a name is not allowed, or a party would send to itself.
    """
    if sender == receiver:
        raise ValueError(f"link: expected two different parties, found {sender!r} twice")
    return (
        f"{check_name(federation, 'federation')}.{check_name(sender, 'party')}-to-"
        f"{check_name(receiver, 'party')}.{check_name(session, 'session')}"
    )


def links_prefix(federation: str, sender: str) -> str:
    """With which the topics of all links of one sender begin, and no others: for rights.

    Raises:
        ValueError: a name is not allowed.
    """
    return f"{check_name(federation, 'federation')}.{check_name(sender, 'party')}-to-"


def link_prefix(federation: str, sender: str, receiver: str) -> str:
    """With which the topics of the links between two parties begin, and no others: for rights.

    Raises:
        ValueError: a name is not allowed, or a party would send to itself.
    """
    return link_topic(federation, sender, receiver, "x").removesuffix("x")


def consumer_group(federation: str, party: str) -> str:
    """Kafka's consumer group of a party: shows how far it has read, and decides nothing.

    Raises:
        ValueError: a name is not allowed.
    """
    return f"{check_name(federation, 'federation')}.{check_name(party, 'party')}"


def lobby_topic(federation: str) -> str:
    """Topic on which sessions are announced.

    Raises:
        ValueError: the name is not allowed.
    """
    return f"{check_name(federation, 'federation')}.lobby"


def schemas_topic(federation: str) -> str:
    """Topic of the schema registry's log.

    Raises:
        ValueError: the name is not allowed.
    """
    return f"{check_name(federation, 'federation')}.schemas"


def telemetry_topic(federation: str, party: str) -> str:
    """Topic of a party's progress events.

    Raises:
        ValueError: a name is not allowed.
    """
    return f"{check_name(federation, 'federation')}.telemetry.{check_name(party, 'party')}"


def incarnations_topic(federation: str, party: str) -> str:
    """Topic on which a party's processes claim their incarnations.

    Raises:
        ValueError: a name is not allowed.
    """
    return f"{check_name(federation, 'federation')}.incarnations.{check_name(party, 'party')}"


def divergences_topic(federation: str, party: str) -> str:
    """Topic of the frames that a party recomputed with other bits than those in the log.

    Raises:
        ValueError: a name is not allowed.
    """
    return f"{check_name(federation, 'federation')}.divergences.{check_name(party, 'party')}"


def parse_link_topic(topic: str) -> LinkName:
    """Inverse of :func:`link_topic`.

    Raises:
        ValueError: not the name of a link's topic.
    """
    match = _LINK.fullmatch(topic)
    if match is None:
        raise ValueError(
            f"topic: expected '<federation>.<sender>-to-<receiver>.<session>', found {topic!r}"
        )
    federation, sender, receiver, session = match.groups()
    link_topic(federation, sender, receiver, session)
    return LinkName(federation=federation, sender=sender, receiver=receiver, session=session)


def parse_telemetry_topic(topic: str) -> TelemetryName:
    """Inverse of :func:`telemetry_topic`.

    Raises:
        ValueError: not the name of a telemetry topic.
    """
    match = _TELEMETRY.fullmatch(topic)
    if match is None:
        raise ValueError(f"topic: expected '<federation>.telemetry.<party>', found {topic!r}")
    federation, party = match.groups()
    telemetry_topic(federation, party)
    return TelemetryName(federation=federation, party=party)
