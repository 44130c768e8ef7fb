"""How fast the link to a peer is, both ways, as far as this party can know.

This party sees how long the log takes to confirm what it appends, and how long what a peer appended
takes to arrive here. How long its own frames take from the log to the peer only the peer sees: it
tells with a header of the records that it sends.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter

from slstream.adaptive.link_rate import LinkRate

RATE_HEADER = "rate"
"""Of a record: bytes per second at which the records of its receiver arrive at its sender."""

_MOST = 10**15
_CHANGE = 0.2
"""A rate is told again when it has changed by this part."""
_TELL_EVERY = 32
"""And after so many frames, as a peer that was started again does not know it."""
_NOT_TOLD = 40
"""Frames after which a peer that tells nothing is taken to have nothing to tell."""
_BURST = 8
"""Appends that are rated together, when they are under way together."""


class LinkSpeed:
    """The link between this party and one peer. Estimates only: nothing is wrong when they are."""

    def __init__(self, *, chooses: bool, tells: bool) -> None:
        """Nothing is known, and nothing is measured that nobody chooses by.

        Args:
            chooses: whether this party chooses the codecs of what it sends to the peer.
            tells: whether the peer is told what arrives here, because it chooses by it.
        """
        self._chooses = chooses
        self._tells = tells
        self.to_log = LinkRate()
        """Of what this party appends."""
        self.from_log = LinkRate()
        """Of what the peer has appended."""
        self._at_peer: int | None = None
        self._told: int | None = None
        self._frames_since_told = 0
        self._appended = 0
        self._under_way = 0
        self._burst_began_s, self._burst_bytes, self._burst_appends = 0.0, 0, 0
        self._burst_has_delay = True

    @property
    def seconds_per_byte(self) -> float | None:
        """From this party to the peer; ``None`` while too little is known."""
        to_log, at_peer = self.to_log.seconds_per_byte, self._at_peer
        if at_peer is not None:
            return 1 / at_peer + (to_log or 0.0)
        return to_log if self._appended >= _NOT_TOLD else None

    @contextmanager
    def appending(self, size: int) -> Iterator[None]:
        """Note how long an append takes; one that fails tells nothing.

        A log may confirm appends that are under way together at once, so these are one transfer:
        from the first begin until none is under way, or until there were :data:`_BURST`.

        Args:
            size: bytes.
        """
        if not self._chooses:
            yield
            return
        if not self._under_way:
            self._begin_burst(has_delay=True)
        self._under_way += 1
        try:
            yield
            self._burst_bytes += size
            self._burst_appends += 1
            self._appended += 1
        finally:
            self._under_way -= 1
        if self._under_way and self._burst_appends < _BURST:
            return
        took_s = perf_counter() - self._burst_began_s
        if self._burst_has_delay:
            self.to_log.add(self._burst_bytes, took_s)
        else:
            self.to_log.add_queued(self._burst_bytes, took_s)
        self._begin_burst(has_delay=False)

    def _begin_burst(self, *, has_delay: bool) -> None:
        self._burst_began_s, self._burst_bytes, self._burst_appends = perf_counter(), 0, 0
        self._burst_has_delay = has_delay

    def arrived(self, size: int, took_s: float, waited_s: float) -> None:
        """Note how long what the peer appended took to arrive here.

        It may have been on its way, or there, before it was waited for: what counts of its time is
        what this party was held up by it.

        Args:
            size: bytes.
            took_s: since the log took it, by two clocks.
            waited_s: how long this party has waited for it.
        """
        if self._tells:
            self.from_log.add(size, took_s, at_most_s=waited_s)

    def headers(self) -> tuple[tuple[str, bytes], ...]:
        """For the next record to the peer: how fast its own arrive, if it has to be told."""
        seconds = self.from_log.seconds_per_byte
        if seconds is None:
            return ()
        self._frames_since_told += 1
        rate = round(min(_MOST, 1 / max(seconds, 1 / _MOST)))
        told = self._told
        known = told is not None and abs(rate - told) <= _CHANGE * told
        if known and self._frames_since_told < _TELL_EVERY:
            return ()
        self._told, self._frames_since_told = rate, 0
        return ((RATE_HEADER, b"%d" % rate),)

    def heed(self, headers: tuple[tuple[str, bytes], ...]) -> None:
        """Take note of a record of the peer; what is no rate is ignored."""
        for name, value in headers:
            if name == RATE_HEADER and len(value) <= len(str(_MOST)) and value.isdigit():
                self._at_peer = max(1, int(value))
