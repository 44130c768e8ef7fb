"""Where sessions are announced: a topic of plain JSON records, one per announcement or end."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from time import monotonic

from slstream.errors import PeerTimeout, RemoteProtocolError
from slstream.frames.topics import check_name, lobby_topic
from slstream.party.doing import doing
from slstream.protocol.messages import (
    Announce,
    Close,
    Message,
    Resume,
    decode_message,
    encode_message,
)
from slstream.topology.topology import Topology
from slstream.transport.contract import Record, StoredRecord, Transport

_TICK_S = 1.0
_SAY_AGAIN_S = 30.0

_logger = logging.getLogger(__name__)


def continues(announce: Announce, topology: Topology) -> bool:
    """Whether the label party of a topology goes on with an unfinished session."""
    uses_key_file = topology.alignment.key_file is not None
    return announce.digest == topology.digest() and bool(announce.id_key) != uses_key_file


class Lobby:
    """A fold over the lobby's log: which sessions were announced, and which are over.

    What a process of the label party writes counts until a newer one has written something.
    Records that are not lobby messages are skipped: anyone who may write to the lobby could
    otherwise stop every session.
    """

    def __init__(self, transport: Transport, federation: str, label_party: str) -> None:
        """Start at the beginning; call :meth:`open` first."""
        self._transport = transport
        self._federation = federation
        self._label_party = label_party
        self._topic = lobby_topic(federation)
        self._offset = 0
        self._open: dict[str, Announce] = {}
        self._closed: dict[str, Close] = {}
        self._announced: dict[str, Announce] = {}
        self._incarnation = 0

    async def open(self) -> None:
        """Create the topic where it is missing, and read it to its end."""
        await self._transport.create_topic(self._topic)
        await self.refresh()

    async def refresh(self) -> None:
        """Read what has come since."""
        while records := await self._read():
            for record in records:
                self._fold(record.value)
            self._offset = records[-1].offset + 1

    async def _read(self) -> Sequence[StoredRecord]:
        with doing(f"read the lobby (topic {self._topic}, offset {self._offset})"):
            return await self._transport.read(self._topic, self._offset)

    def _fold(self, value: bytes) -> None:
        try:
            message = decode_message(value)
        except RemoteProtocolError:
            return
        if not isinstance(message, Announce | Resume | Close):
            return
        if message.incarnation < self._incarnation:
            return  # its process was fenced
        match message:
            case Announce(session=session):
                if not self._is_ours(message) or session in self._announced:
                    return
                self._announced[session] = self._open[session] = message
            case Close(session=session):
                if self._open.pop(session, None) is not None:
                    self._closed[session] = message
        self._incarnation = message.incarnation

    def _is_ours(self, announce: Announce) -> bool:
        try:
            check_name(announce.session, "session")  # it becomes part of topic names
        except ValueError:
            return False
        ours = (self._federation, self._label_party)
        return (announce.federation, announce.label_party) == ours

    @property
    def unfinished(self) -> tuple[Announce, ...]:
        """Sessions that are announced and not over, oldest first."""
        return tuple(self._open.values())

    def closed(self, session: str) -> Close | None:
        """How a session ended, when it did."""
        return self._closed.get(session)

    def announced(self, session: str) -> Announce | None:
        """How a session began, whether it is over or not."""
        return self._announced.get(session)

    @property
    def sessions(self) -> tuple[str, ...]:
        """All that were announced, oldest first."""
        return tuple(self._announced)

    @property
    def newest(self) -> Announce | None:
        """The session that was announced last."""
        return next(reversed(self._announced.values()), None)

    async def wait_closed(self, session: str, *, timeout_s: float) -> Close | None:
        """How a session ended, as soon as it has; ``None`` when it did not in time."""
        deadline = monotonic() + timeout_s
        while True:
            await self.refresh()
            if session in self._closed:
                return self._closed[session]
            left_s = deadline - monotonic()
            if left_s <= 0:
                return None
            await self._transport.wait(self._topic, self._offset, timeout_s=left_s)

    async def tell(self, message: Announce | Resume | Close) -> None:
        """Open a session, go on with it, or say that it is over."""
        await self._append(message, message.session)

    async def wait(
        self,
        choose: Callable[[], Announce | None],
        *,
        timeout_s: float,
        on_tick: Callable[[float], Awaitable[None]],
    ) -> Announce:
        """The session that ``choose`` names, now or as soon as there is one.

        Args:
            choose: called after each look at the lobby.
            timeout_s: how long to wait.
            on_tick: awaited about once a second with the seconds waited so far.

        Raises:
            PeerTimeout: none was announced in time.
        """
        start = monotonic()
        tick_at_s, say_at_s = _TICK_S, 0.0
        while True:
            # Before the look: what came while this process was stopped is seen.
            waited_s = monotonic() - start
            await self.refresh()
            if (announce := choose()) is not None:
                return announce
            if waited_s >= timeout_s:
                raise PeerTimeout(
                    f"{self._label_party} announced no session for {waited_s:.0f} s "
                    f"(topic {self._topic}, offset {self._offset}); is it running, "
                    "on the same log?"
                )
            if waited_s >= tick_at_s:
                tick_at_s = waited_s + _TICK_S
                if waited_s >= say_at_s:
                    say_at_s = waited_s + _SAY_AGAIN_S
                    place = {"topic": self._topic, "offset": self._offset}
                    what = f"{self._label_party} to announce a session"
                    _logger.info(
                        "waiting", extra={"for": what, "waited_s": round(waited_s), **place}
                    )
                await on_tick(waited_s)
            await self._transport.wait(self._topic, self._offset, timeout_s=min(_TICK_S, timeout_s))

    async def _append(self, message: Message, session: str) -> None:
        value = encode_message(message)
        record = Record(key=session.encode(), headers=(("kind", b"lobby"),), value=value)
        with doing(f"write to the lobby (topic {self._topic})"):
            await self._transport.append(self._topic, [record])
