"""Where a party computed other bits than an earlier process of it had sent."""

from __future__ import annotations

import hashlib
import json
import logging
from typing import Protocol

from slstream.errors import Diverged
from slstream.frames.frame import Frame
from slstream.frames.topics import divergences_topic
from slstream.party.doing import doing
from slstream.party.link_reader import Place
from slstream.party.outbound import Outgoing
from slstream.transport.contract import Record, Transport

_logger = logging.getLogger(__name__)


def same_place(computed: Outgoing, logged: Frame) -> bool:
    """Whether both are the same frame of the session, whatever is in it."""
    return (computed.kind, computed.epoch, computed.step, computed.micro_batch) == (
        logged.kind,
        logged.epoch,
        logged.step,
        logged.micro_batch,
    )


def differs(computed: Outgoing, logged: Frame) -> bool:
    """Whether a frame in the log is another one than what was computed for its place."""
    found = (logged.schema_id, logged.payload)
    return not same_place(computed, logged) or (computed.schema_id, computed.payload) != found


class Comparison(Protocol):
    """What is done with each frame that the log holds already."""

    async def compare(
        self, session: str, receiver: str, computed: Outgoing, logged: Frame, place: Place
    ) -> None:
        """Compare a frame that was computed now with what the log holds in its place."""


class Divergences:
    """Records divergences in the log; the frames that were sent first stand."""

    def __init__(self, transport: Transport, federation: str, party: str) -> None:
        """Record those of one party."""
        self._transport = transport
        self._topic = divergences_topic(federation, party)
        self.count = 0
        """Recorded by this process."""

    async def compare(
        self, session: str, receiver: str, computed: Outgoing, logged: Frame, place: Place
    ) -> None:
        """Compare a frame with what the log holds in its place, and record a difference.

        Raises:
            Diverged: it is not the same frame of the session at all.
        """
        if not differs(computed, logged):
            return
        if not same_place(computed, logged):
            raise Diverged(
                f"{place} holds {logged.kind.label} of epoch {logged.epoch}, step {logged.step} "
                f"where this process would send {computed} to {receiver}: it was not started with "
                "the topology, code or release that began the session"
            )
        self.count += 1
        event = {
            "session": session,
            "receiver": receiver,
            "topic": place.topic,
            "offset": place.offset,
            "sequence": logged.sequence,
            "kind": logged.kind.label,
            "epoch": logged.epoch,
            "step": logged.step,
            "logged_sha256": hashlib.sha256(logged.payload).hexdigest(),
            "computed_sha256": hashlib.sha256(computed.payload).hexdigest(),
        }
        _logger.warning(
            "recomputed other bits than were sent; those that were sent stand",
            extra={"frame": str(computed), "to": receiver, "place": str(place)},
        )
        value = json.dumps(event, sort_keys=True).encode()
        with doing(f"record a divergence (topic {self._topic})"):
            await self._transport.create_topic(self._topic)
            await self._transport.append(self._topic, [Record(key=session.encode(), value=value)])
