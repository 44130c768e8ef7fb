"""Which start of a party's process this is: the fencing token."""

from __future__ import annotations

import json
import os
import socket

from slstream.errors import Fenced
from slstream.frames.topics import incarnations_topic
from slstream.party.doing import doing
from slstream.transport.contract import Record, Transport


class Incarnation:
    """A claim in the log: each start of a party appends a record to a topic of its own.

    The number of an incarnation is the offset of its record plus 1. So the log orders all starts,
    no two have one number, and whoever is not the last knows that it is fenced.
    """

    def __init__(self, transport: Transport, topic: str, party: str, number: int) -> None:
        """Use :meth:`claim`."""
        self.number = number
        self._transport = transport
        self._topic = topic
        self._party = party

    @classmethod
    async def claim(cls, transport: Transport, federation: str, party: str) -> Incarnation:
        """Become the party's newest process."""
        topic = incarnations_topic(federation, party)
        claim = {"host": socket.gethostname(), "pid": os.getpid()}  # for people who look for it
        value = json.dumps(claim, sort_keys=True).encode()
        with doing(f"claim an incarnation (topic {topic})"):
            await transport.create_topic(topic)
            offset = await transport.append(topic, [Record(key=party.encode(), value=value)])
        return cls(transport, topic, party, offset + 1)

    async def require_newest(self) -> None:
        """Check that no newer process of the party has started.

        Raises:
            Fenced: one has.
        """
        with doing(f"read the incarnations (topic {self._topic})"):
            newest = await self._transport.end_offset(self._topic)
        if newest > self.number:
            raise Fenced(
                f"another process of {self._party} has started since (incarnation {newest}, this "
                f"one is {self.number}; topic {self._topic}) and has taken over; run only one"
            )
