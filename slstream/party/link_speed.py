"""How fast the link to a peer is, both ways, as far as this party can know.

This party sees how long the log takes to confirm what it appends, and how long what a peer appended
takes to arrive here. How long its own frames take from the log to the peer only the peer sees: it
tells with a header of the records that it sends.
"""

from __future__ import annotations

from slstream.adaptive.link_rate import LinkRate

RATE_HEADER = "rate"
"""Of a record: bytes per second at which the records of its receiver arrive at its sender."""

_MOST = 10**15
_CHANGE = 0.2
"""A rate is told again when it has changed by this part."""


class LinkSpeed:
    """The link between this party and one peer. Estimates only: no result depends on them."""

    def __init__(self, *, tells: bool) -> None:
        """Nothing is known.

        Args:
            tells: whether the peer is told what arrives here, because it chooses by it.
        """
        self._tells = tells
        self.to_log = LinkRate()
        """Of what this party appends."""
        self.from_log = LinkRate()
        """Of what the peer has appended."""
        self._at_peer: int | None = None
        self._told: int | None = None

    @property
    def seconds_per_byte(self) -> float | None:
        """From this party to the peer; ``None`` while nothing is known."""
        parts = [
            self.to_log.seconds_per_byte,
            None if self._at_peer is None else 1 / self._at_peer,
        ]
        known = [part for part in parts if part is not None]
        return sum(known) if known else None

    def headers(self) -> tuple[tuple[str, bytes], ...]:
        """For the next record to the peer: how fast its own arrive, when that has changed."""
        seconds = self.from_log.seconds_per_byte
        if seconds is None or not self._tells:
            return ()
        rate = round(min(_MOST, 1 / max(seconds, 1 / _MOST)))
        if self._told is not None and abs(rate - self._told) <= _CHANGE * self._told:
            return ()
        self._told = rate
        return ((RATE_HEADER, b"%d" % rate),)

    def heed(self, headers: tuple[tuple[str, bytes], ...]) -> None:
        """Take note of a record of the peer; what is no rate is ignored."""
        for name, value in headers:
            if name == RATE_HEADER and len(value) <= len(str(_MOST)) and value.isdigit():
                self._at_peer = max(1, int(value))
