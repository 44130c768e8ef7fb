"""The sessions of a log, and how far each came."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from slstream.audit.link_tally import LinkCounter, LinkTally
from slstream.errors import OffsetOutOfRange, RemoteProtocolError, UnknownTopic
from slstream.frames.topics import (
    LinkName,
    check_name,
    link_topic,
    parse_link_topic,
    telemetry_topic,
)
from slstream.party.telemetry import PartyState, Progress
from slstream.protocol.messages import Announce, Close, Resume, decode_message
from slstream.transport.contract import StoredRecord, Transport

UNFINISHED = "unfinished"
"""Announced and not closed: it runs, or it waits for a party to come back."""

INTERRUPTED = "interrupted"
"""As :data:`UNFINISHED`, and the last that its label party said is that it was interrupted."""

UNANNOUNCED = "unannounced"
"""There are links, but the lobby says nothing of the session."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedSession:
    """What the log tells of one session."""

    federation: str
    session: str
    state: str
    """An outcome of :class:`slstream.protocol.messages.Close`, :data:`UNFINISHED`,
    :data:`INTERRUPTED` or :data:`UNANNOUNCED`."""
    reason: str
    """Why it ended, as its label party said; may be empty."""
    parties: tuple[str, ...]
    """The label party first, where the lobby names it."""
    epochs: int | None
    """Epochs planned, where the announcement says so."""
    started_ms: int | None
    last_ms: int | None
    """Milliseconds since the Unix epoch of its first and last record; informative."""
    links: tuple[LinkTally, ...]
    divergences: Mapping[str, int]
    """By party: frames that it recomputed with other bits than those in the log."""

    @property
    def epoch(self) -> int:
        """Epoch that the training has reached, from 1; 0 before the first gradient."""
        return max((tally.epoch for tally in self.links), default=0)

    @property
    def steps(self) -> int:
        """Training steps, over all epochs, whose gradients were sent."""
        return max((tally.steps for tally in self.links), default=0)

    @property
    def frames(self) -> int:
        """Frames that stand, over all links."""
        return sum(tally.frames for tally in self.links)

    @property
    def wire_bytes(self) -> int:
        """Bytes of all records of all links, with all headers."""
        return sum(tally.wire_bytes for tally in self.links)

    @property
    def duplicates(self) -> int:
        """Records, but for fences, that were ignored because their number had been taken."""
        return sum(tally.duplicates for tally in self.links)

    @property
    def fenced(self) -> int:
        """Records that were ignored because a newer incarnation had begun."""
        return sum(tally.fenced for tally in self.links)

    @property
    def abandoned(self) -> int:
        """Incomplete frames that a newer incarnation gave up."""
        return sum(tally.abandoned for tally in self.links)

    @property
    def incarnations(self) -> dict[str, int]:
        """By party: how many of its processes have written to its links."""
        return {
            party: len(
                frozenset().union(*(t.incarnations for t in self.links if t.link.sender == party))
            )
            for party in self.parties
        }

    @property
    def problems(self) -> tuple[str, ...]:
        """What is wrong with its links; a party that reads them stops there."""
        return tuple(tally.problem for tally in self.links if tally.problem is not None)


async def list_sessions(
    transport: Transport, *, federation: str | None = None
) -> tuple[ListedSession, ...]:
    """All sessions of a log, oldest first.

    Reads the lobbies, the topics of divergences, the last record of the label parties' telemetry,
    and every link, each from its first kept record to
    the end that it has when its turn comes: nearly all bytes of the log, since duplicates, fenced
    records and wire bytes are known from the records alone. So it takes as long as reading the log
    does. Holds one batch of records and one incomplete frame at a time, beside the sessions' own
    rows. Foreign bytes that are no frame of their link are a problem of that link's tally; those
    that are no message of the lobby are skipped, as parties do.

    Args:
        transport: the log; nothing is written.
        federation: list only the sessions of this one.

    Raises:
        TransportError: the log cannot be read.
    """
    # A dict: in order, and quick to look into.
    topics = dict.fromkeys(await transport.topics(f"{federation}." if federation else ""))
    drafts = await _announced(transport, topics)
    for topic in topics:
        with suppress(ValueError):  # not a link
            link = parse_link_topic(topic)
            draft = drafts.setdefault((link.federation, link.session), _Draft())
            draft.links.append(await _tally(transport, link))
    for place, draft in drafts.items():
        draft.interrupted = await _is_interrupted(transport, topics, place, draft)
    diverged = await _divergences(transport, topics, drafts)
    sessions = [
        draft.listed(name, session, diverged[name, session])
        for (name, session), draft in drafts.items()
    ]
    return tuple(sorted(sessions, key=lambda s: (s.federation, s.started_ms or 0, s.session)))


@dataclass(slots=True, kw_only=True)
class _Draft:
    """What is known of a session so far."""

    label_party: str = ""
    """As announced; empty without an announcement."""
    epochs: int | None = None
    close: Close | None = None
    interrupted: bool = False
    times_ms: list[int] = field(default_factory=list)
    links: list[LinkTally] = field(default_factory=list)

    def listed(self, federation: str, session: str, diverged: Mapping[str, int]) -> ListedSession:
        ends = {name for tally in self.links for name in (tally.link.sender, tally.link.receiver)}
        first = [self.label_party] if self.label_party else []
        times = list(self.times_ms)
        for tally in self.links:
            times += [each for each in (tally.first_ms, tally.last_ms) if each is not None]
        return ListedSession(
            federation=federation,
            session=session,
            state=self._state(),
            reason="" if self.close is None else self.close.reason,
            parties=(*first, *sorted(ends.difference(first))),
            epochs=self.epochs,
            started_ms=min(times, default=None),
            last_ms=max(times, default=None),
            links=tuple(self.links),
            divergences=dict(sorted(diverged.items())),
        )

    def _state(self) -> str:
        if self.close is not None:
            return self.close.outcome
        if not self.label_party:
            return UNANNOUNCED
        return INTERRUPTED if self.interrupted else UNFINISHED


_Drafts = dict[tuple[str, str], _Draft]
"""By federation and session."""


async def _announced(transport: Transport, topics: Iterable[str]) -> _Drafts:
    drafts: _Drafts = {}
    for topic in topics:
        federation, separator, rest = topic.partition(".lobby")
        if separator and not rest:
            newest: dict[str, int] = {}
            async for record in _records(transport, topic):
                _fold_lobby(drafts, newest, federation, record)
    return drafts


def _fold_lobby(
    drafts: _Drafts, newest: dict[str, int], federation: str, record: StoredRecord
) -> None:
    """As the parties' :class:`slstream.party.lobby.Lobby` does, for any label party.

    Args:
        drafts: what is known so far.
        newest: highest incarnation so far, by label party: older processes are fenced.
        federation: of this lobby.
        record: the next one of it.
    """
    try:
        message = decode_message(record.value)
    except RemoteProtocolError:
        return
    if isinstance(message, Announce) and message.federation == federation:
        label_party = message.label_party
        if not (_is_name(message.session, "session") and _is_name(label_party, "party")):
            return
    elif isinstance(message, Resume | Close) and (federation, message.session) in drafts:
        label_party = drafts[federation, message.session].label_party
    else:
        return
    if message.incarnation < newest.get(label_party, 0):
        return
    newest[label_party] = message.incarnation
    draft = drafts.setdefault((federation, message.session), _Draft(label_party=label_party))
    if isinstance(message, Announce) and not draft.times_ms:
        draft.epochs = _planned_epochs(message.agreed)
    elif isinstance(message, Close):
        draft.close = draft.close or message
    # The first and the last are enough, however often a lobby repeats itself.
    draft.times_ms = [*draft.times_ms[:1], record.timestamp_ms]


def _is_name(name: str, what: str) -> bool:
    try:
        check_name(name, what)
    except ValueError:
        return False
    return True


def _planned_epochs(agreed: Mapping[str, object]) -> int | None:
    training = agreed.get("training")
    epochs = training.get("epochs") if isinstance(training, dict) else None
    return epochs if type(epochs) is int else None


async def _tally(transport: Transport, link: LinkName) -> LinkTally:
    topic = link_topic(link.federation, link.sender, link.receiver, link.session)
    counter = LinkCounter(link)
    try:
        async for record in _records(transport, topic):
            counter.push(record)
    except (UnknownTopic, OffsetOutOfRange) as error:
        # Deleted, or taken by retention, while we read.
        counter.fail(f"topic {topic}: {error}")
    return counter.tally


async def _is_interrupted(
    transport: Transport, topics: Mapping[str, None], place: tuple[str, str], draft: _Draft
) -> bool:
    """Whether the last that the label party of an open session said is that it was interrupted."""
    if draft.close is not None or not draft.label_party:
        return False
    federation, session = place
    topic = telemetry_topic(federation, draft.label_party)
    if topic not in topics:
        return False
    end = await transport.end_offset(topic)
    if end == await transport.start_offset(topic):
        return False
    (record,) = await transport.read(topic, end - 1, max_records=1)
    try:
        event = Progress.from_json(record.value)
    except ValueError:
        return False
    return (event.session, event.state) == (session, PartyState.INTERRUPTED)


async def _divergences(
    transport: Transport, topics: Iterable[str], drafts: _Drafts
) -> dict[tuple[str, str], Counter[str]]:
    """By federation and session: records by party; those of no session in the list are skipped."""
    found: dict[tuple[str, str], Counter[str]] = {place: Counter() for place in drafts}
    for topic in topics:
        federation, separator, party = topic.partition(".divergences.")
        if not separator:
            continue
        async for record in _records(transport, topic):
            place = (federation, _session_of(record.value))
            if place in found:
                found[place][party] += 1
    return found


def _session_of(value: bytes) -> str:
    """The session that a record of divergence names; nothing when it names none."""
    try:
        document = json.loads(value)
    except (ValueError, RecursionError):
        return ""
    session = document.get("session") if isinstance(document, dict) else None
    return session if isinstance(session, str) else ""


async def _records(transport: Transport, topic: str) -> AsyncIterator[StoredRecord]:
    """What the topic holds now; what is appended meanwhile is left out, or this might not end."""
    offset = await transport.start_offset(topic)
    end = await transport.end_offset(topic)
    while offset < end:
        for record in await transport.read(topic, offset):
            if record.offset >= end:
                return
            yield record
            offset = record.offset + 1
