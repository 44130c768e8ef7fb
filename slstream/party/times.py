"""Where a party's wall time goes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter

from slstream.party.summary import TimeSpent


@dataclass(slots=True)
class Times:
    """Seconds so far, by what they were spent on."""

    compute_s: float = 0.0
    codec_s: float = 0.0
    transport_s: float = 0.0
    waiting_s: float = 0.0

    def clear(self) -> None:
        """Begin anew, for another session."""
        self.compute_s = self.codec_s = self.transport_s = self.waiting_s = 0.0

    @contextmanager
    def measure(self, name: str) -> Iterator[None]:
        """Add the time of the block to one of the fields."""
        start = perf_counter()
        try:
            yield
        finally:
            setattr(self, name, getattr(self, name) + perf_counter() - start)

    def spent(self, total_s: float) -> TimeSpent:
        """The times of a session that took ``total_s``."""
        return TimeSpent(
            compute_s=self.compute_s,
            codec_s=self.codec_s,
            transport_s=self.transport_s,
            waiting_s=self.waiting_s,
            total_s=total_s,
        )
