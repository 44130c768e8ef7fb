"""A link between two places as arithmetic: when does what is sent now arrive?

One direction has a queue, a rate and a delay, as the far end of a leased line does: a transfer
begins when the one before it has left, takes its bytes at the link's rate, and arrives the one-way
delay later. Jitter makes single transfers later, but never lets one overtake another. During a cut
nothing passes: what waits goes on afterwards, what is under way arrives afterwards.

No clock and no waiting: times are seconds since the link was opened, and are given.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass

from slstream.errors import ConfigError

_RATES = {"bit": 1.0, "kbit": 1e3, "mbit": 1e6, "gbit": 1e9}
_DURATIONS = {"us": 1e-6, "ms": 1e-3, "s": 1.0}
_QUANTITY = re.compile(r"(\d+(?:\.\d+)?|\.\d+) ?([a-z]+)")


def parse_rate(text: str) -> float:
    """Bits per second of a text such as ``100mbit`` or ``1.5gbit``.

    Raises:
        ConfigError: it is not such a text, or 0.
    """
    return _parse(text, _RATES, "a rate above 0 such as 100mbit or 1.5gbit")


def parse_duration(text: str) -> float:
    """Seconds of a text such as ``50ms`` or ``1.5s``; ``0ms`` and ``0`` are none.

    Raises:
        ConfigError: it is not such a text.
    """
    if text.strip() == "0":
        return 0.0
    return _parse(text, _DURATIONS, "a duration such as 50ms or 1.5s", zero=True)


def _parse(text: str, units: dict[str, float], expected: str, *, zero: bool = False) -> float:
    match = _QUANTITY.fullmatch(text.strip().lower())
    if match is None or match[2] not in units or (float(match[1]) == 0 and not zero):
        raise ConfigError(f"expected {expected} (units: {', '.join(units)}), found {text!r}")
    return float(match[1]) * units[match[2]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """What both directions of a link are like."""

    rate_bps: float
    """Bits per second, each way."""
    rtt_s: float = 0.0
    """There and back."""
    jitter_s: float = 0.0
    """A transfer takes up to this much longer, by chance, each way."""
    cut_every_s: float | None = None
    """A cut begins each time this has passed since the opening; ``None``: never."""
    cut_for_s: float = 0.0
    """How long a cut lasts."""
    later_rate_bps: float | None = None
    """What the rate becomes; ``None``: it stays."""
    later_at: float = 0.0
    """When, as Unix time."""

    def __post_init__(self) -> None:
        for rate_bps in (self.rate_bps, self.later_rate_bps):
            if rate_bps is not None and rate_bps <= 0:
                raise ConfigError(f"link: expected a rate above 0, found {rate_bps:g} bit/s")
        if min(self.rtt_s, self.jitter_s, self.cut_for_s) < 0:
            raise ConfigError("link: expected no negative duration, found one")
        if (self.cut_every_s is None) != (self.cut_for_s == 0):
            raise ConfigError(
                "link: cuts need both how often and how long, for instance --cut-every 30s "
                "--cut-for 1s; found one of them"
            )
        if self.cut_every_s is not None and self.cut_for_s >= self.cut_every_s:
            raise ConfigError(
                f"link: expected cuts shorter than the {self.cut_every_s:g} s from one to the "
                f"next, found {self.cut_for_s:g} s: nothing would ever pass"
            )

    def __str__(self) -> str:
        text = f"{self.rate_bps / 1e6:g} Mbit/s, {1000 * self.rtt_s:g} ms there and back"
        if self.jitter_s:
            text += f", up to {1000 * self.jitter_s:g} ms of jitter each way"
        if self.cut_every_s is not None:
            text += f", cut every {self.cut_every_s:g} s for {self.cut_for_s:g} s"
        return text


class Direction:
    """One direction of a link, and when it is free again."""

    def __init__(self, link: Link, *, seed: str, opened_at: float = 0.0) -> None:
        """Open it at time 0.

        Args:
            link: what it is like.
            seed: of the jitter; equal seeds give equal jitter to equal transfers.
            opened_at: time 0 as Unix time.
        """
        self._link = link
        self._later_s = link.later_at - opened_at
        self._noise = random.Random(seed)
        self._free_s = 0.0
        self._last_arrival_s = 0.0

    def transfer(self, size_bytes: int, entry_s: float) -> float:
        """When all of what enters the queue at ``entry_s`` is at the other end.

        Args:
            size_bytes: 0 for a request or an acknowledgement, which takes its turn and the delay.
            entry_s: not before the opening.
        """
        link, begin_s = self._link, max(entry_s, self._free_s)
        sent_s = self._sent(8 * size_bytes / self._rate_bps(begin_s), begin_s)
        self._free_s = sent_s
        late_s = self._noise.uniform(0, link.jitter_s)
        arrival_s = self._open(sent_s + link.rtt_s / 2 + late_s)
        self._last_arrival_s = max(self._last_arrival_s, arrival_s)
        return self._last_arrival_s

    def _rate_bps(self, begin_s: float) -> float:
        """Of a transfer; one that is under way when the rate changes keeps its own."""
        later = self._link.later_rate_bps
        return self._link.rate_bps if later is None or begin_s < self._later_s else later

    def _sent(self, takes_s: float, begin_s: float) -> float:
        """When the last bit leaves: cuts take no part in the time that it takes."""
        at_s = self._open(begin_s)
        while (cut_s := self._next_cut(at_s)) is not None and at_s + takes_s > cut_s:
            takes_s -= cut_s - at_s
            at_s = self._open(cut_s)
        return at_s + takes_s

    def _open(self, at_s: float) -> float:
        """``at_s``, or the end of the cut that it is in."""
        every_s = self._link.cut_every_s
        if every_s is None or at_s < every_s:
            return at_s
        began_s = at_s // every_s * every_s
        return max(at_s, began_s + self._link.cut_for_s)

    def _next_cut(self, at_s: float) -> float | None:
        every_s = self._link.cut_every_s
        return None if every_s is None else (at_s // every_s + 1) * every_s
