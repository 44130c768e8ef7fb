"""How long a byte takes on a way, from how long transfers of different sizes took.

A transfer takes a delay, which is the same for all sizes, and the time of its bytes. Of two that
overlap the later one waits for the earlier one, so its bytes took no longer than the time from one
arrival to the next.

The delay is taken from small transfers, messages mostly. It may hold the difference of two clocks,
so the beginning of a transfer may be told by another machine than its end.
"""

from __future__ import annotations

from collections import deque
from statistics import median

SMALL_BYTES = 2048
"""Transfers of fewer bytes tell the delay, others the rate."""

_DELAYS = 16
_RATES = 5
"""Transfers that an estimate rests on: their median follows a change after three."""


class LinkRate:
    """One way: from this party to the log, or from the log to this party."""

    def __init__(self) -> None:
        """Nothing is known."""
        self._delays: deque[float] = deque(maxlen=_DELAYS)
        self._rates: deque[float] = deque(maxlen=_RATES)
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
        if size < SMALL_BYTES:
            self._delays.append(took_s)
        elif self._delays:
            bytes_took_s = min(took_s - min(self._delays), since_last_s)
            self._rates.append(max(0.0, bytes_took_s) / size)

    @property
    def seconds_per_byte(self) -> float | None:
        """The median of the latest transfers; ``None`` before the first."""
        return median(self._rates) if self._rates else None
