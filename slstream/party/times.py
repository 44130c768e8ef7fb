"""Where a party's wall time goes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter

from slstream.party.summary import TimeSpent


@dataclass(slots=True)
class Times:
    """Seconds so far, by what they were spent on; the parts begin with the first training step."""

    opening_s: float = 0.0
    busy_before_s: float = 0.0
    """Of the compute thread, during the opening."""
    codec_s: float = 0.0
    transport_s: float = 0.0
    waiting_s: float = 0.0

    earlier: TimeSpent | None = None
    """Of the processes before this one, as the checkpoint says that it goes on from."""

    def clear(self) -> None:
        """Begin anew, for another session."""
        self.codec_s = self.transport_s = self.waiting_s = 0.0
        self.opening_s = self.busy_before_s = 0.0
        self.earlier = None

    def end_opening(self, opening_s: float, busy_s: float) -> None:
        """Begin with the parts: training starts.

        Args:
            opening_s: how long the opening took.
            busy_s: seconds of the compute thread so far.
        """
        earlier = self.earlier
        self.clear()
        self.opening_s, self.busy_before_s, self.earlier = opening_s, busy_s, earlier

    @contextmanager
    def measure(self, name: str) -> Iterator[None]:
        """Add the time of the block to one of the fields."""
        start = perf_counter()
        try:
            yield
        finally:
            setattr(self, name, getattr(self, name) + perf_counter() - start)

    def spent(self, total_s: float, busy_s: float) -> TimeSpent:
        """The times of a session.

        Args:
            total_s: how long it took.
            busy_s: seconds of the compute thread in all; coding is part of them.
        """
        now = TimeSpent(
            opening_s=self.opening_s,
            compute_s=max(0.0, busy_s - self.busy_before_s - self.codec_s),
            codec_s=self.codec_s,
            transport_s=self.transport_s,
            waiting_s=self.waiting_s,
            total_s=total_s,
        )
        return now if self.earlier is None else now + self.earlier
