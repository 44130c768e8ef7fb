"""How long a byte takes on a way, from how long transfers of different sizes took.

A transfer takes a delay, which is the same for all sizes, and the time of its bytes. Of two that
overlap the later one waits for the earlier one, so its bytes took no longer than the time from one
arrival to the next.

The delay is taken from transfers of at most a quarter of the bytes, messages at first. It may hold
the difference of two clocks, so the beginning of a transfer may be told by another machine than its
end.
"""

from __future__ import annotations

from collections import defaultdict, deque
from statistics import median

_DELAYS = 8
"""Transfers of a size class that are remembered; the quickest tells the delay."""
_RATES = 5
"""Transfers that an estimate rests on: their median follows a change after three."""
_RATED_BYTES = 2048
"""Smaller transfers tell too little of the rate."""
_CLASSES = 2
"""Size classes, each twice the one before, from a transfer down to those that tell its delay."""


class LinkRate:
    """One way: from this party to the log, or from the log to this party."""

    def __init__(self) -> None:
        """Nothing is known."""
        self._took_s: defaultdict[int, deque[float]] = defaultdict(lambda: deque(maxlen=_DELAYS))
        """By size class, the bit length of the size."""
        self._rated: deque[tuple[int, float, float]] = deque(maxlen=_RATES)
        """Size, seconds from begin to end, and seconds since the end before."""
        self._last_ended_s = float("-inf")

    def add(self, size: int, began_s: float, ended_s: float) -> None:
        """Note a transfer.

        Args:
            size: bytes.
            began_s: by one clock.
            ended_s: by the same or another clock; transfers are noted in the order of their ends.
        """
        took_s, since_last_s = ended_s - began_s, ended_s - self._last_ended_s
        self._last_ended_s = ended_s
        self._took_s[size.bit_length()].append(took_s)
        if size >= _RATED_BYTES:
            self._rated.append((size, took_s, since_last_s))

    @property
    def seconds_per_byte(self) -> float | None:
        """The median of the latest transfers; ``None`` before the first that tells."""
        rates = []
        for size, took_s, since_last_s in self._rated:
            below = size.bit_length() - _CLASSES
            delays = [min(took) for bits, took in self._took_s.items() if bits <= below]
            if delays:
                rates.append(max(0.0, min(took_s - min(delays), since_last_s)) / size)
        return median(rates) if rates else None
