"""How long a byte takes on a way, from how long transfers of different sizes took.

A transfer takes a delay, which is the same for all sizes, and the time of its bytes. The delay is
taken from transfers of at most a quarter of the bytes, messages at first. It may hold the
difference of two clocks, so the beginning of a transfer may be told by another machine than its
end.

A delay that grows is taken for a slower way until some small transfers have shown it: then too few
bytes are sent for a while, never too many.
"""

from __future__ import annotations

from collections import defaultdict, deque
from math import inf

_DELAYS = 3
"""Transfers of a size class that are remembered; the quickest tells the delay."""
_RATES = 5
_RANK = 2
"""Of the latest transfers, the second quickest by the byte tells the rate: what disturbs one only
adds to its time, as with the delay. One that seems too quick is ignored, a slower way is followed
after four, a quicker one after two."""
_BLUR_S = 0.001
"""What is shorter tells nothing: timestamps are whole milliseconds, and threads wake when they may.
So a transfer tells a range of rates, and the estimate stays as it was while it is in that range.
It begins with the slowest: too many bytes cost more than too few."""
_RATED_BYTES = 2048
"""Smaller transfers tell too little of the rate."""
_CLASSES = 3
"""Size classes, each twice the one before, from a transfer down to those that tell its delay."""


class LinkRate:
    """One way: from this party to the log, or from the log to this party.

    Transfers are noted by one thread; any may look at the estimate.
    """

    def __init__(self) -> None:
        """Nothing is known."""
        self.seconds_per_byte: float | None = None
        """Of the latest transfers; ``None`` before the first that tells."""
        self._took_s: defaultdict[int, deque[float]] = defaultdict(lambda: deque(maxlen=_DELAYS))
        """By size class, the bit length of the size."""
        self._rated: deque[tuple[int, float, float]] = deque(maxlen=_RATES)
        """Size, seconds with the delay, and the most that its bytes can have taken of them."""

    def add(self, size: int, took_s: float, *, at_most_s: float = inf) -> None:
        """Note a transfer.

        Args:
            size: bytes.
            took_s: seconds from its begin to its end, maybe by two clocks.
            at_most_s: what its bytes cannot have taken more than.
        """
        self._took_s[size.bit_length()].append(took_s)
        self._rate(size, took_s, at_most_s)

    def add_queued(self, size: int, took_s: float) -> None:
        """Note a transfer that began when the one before it ended, so without a delay."""
        self._rate(size, inf, took_s)

    def _rate(self, size: int, took_s: float, at_most_s: float) -> None:
        if size >= _RATED_BYTES:
            self._rated.append((size, took_s, at_most_s))
        self.seconds_per_byte = self._estimate()

    def _estimate(self) -> float | None:
        lowest, highest = [], []
        for size, took_s, at_most_s in self._rated:
            below = size.bit_length() - _CLASSES
            delays = [min(took) for bits, took in self._took_s.items() if bits <= below]
            if delays or took_s == inf:
                bytes_took_s = min(took_s - min(delays, default=0.0), at_most_s)
                lowest.append(max(0.0, bytes_took_s - _BLUR_S) / size)
                highest.append(max(0.0, bytes_took_s) / size)
        if not highest:
            return None
        low, high = (sorted(each)[:_RANK][-1] for each in (lowest, highest))
        before = self.seconds_per_byte
        return high if before is None else min(max(before, low), high)
