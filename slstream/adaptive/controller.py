"""Chooses the chain of the next frame of one direction of a link."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import monotonic

from slstream.adaptive.ladder import FIRST
from slstream.adaptive.measure import Measure, measure, sample
from slstream.codecs.chain import CodecChain
from slstream.codecs.contract import FloatArray
from slstream.errors import EncodeError

MEASURE_EVERY = 64
"""Frames from one look at all chains to the next."""
TRUST = 0.5
"""Weight of a new look against the ones before it."""
WARM_UP = 4
"""Frames on the first rung, until the link is known."""
GAIN = 0.15
"""Part of the predicted time that another chain must save."""
DWELL_FRAMES = 10
DWELL_S = 0.5
"""A choice stands for this long at least, unless it is not good enough."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The chain of a frame."""

    rung: int
    """Index in the ladder."""
    reason: str
    """Why it is another one than before; empty when it is the same."""


class Controller:
    """One sender's choices for one kind of tensor on one link.

    The predicted time of a frame is that of encoding it, of its bytes on the link and of decoding
    it; what does not depend on the chain is left out. Among the chains above the floor the quickest
    is taken, but a change must save :data:`GAIN` of the time, and stands for a while.
    """

    def __init__(
        self,
        chains: Sequence[CodecChain],
        *,
        seconds_per_byte: Callable[[], float | None],
        floor_db: Callable[[], float],
        clock: Callable[[], float] = monotonic,
        measure: Callable[[CodecChain, FloatArray], Measure] = measure,
    ) -> None:
        """Begin on the first rung.

        Args:
            chains: the ladder, from the finest to the coarsest.
            seconds_per_byte: of the link; ``None`` while that is not known.
            floor_db: the lowest signal-to-noise ratio that is good enough.
            clock: seconds.
            measure: what a chain makes of some rows.
        """
        self._chains = chains
        self._seconds_per_byte = seconds_per_byte
        self._floor_db = floor_db
        self._clock = clock
        self._measure = measure
        self._measures: list[Measure] = []
        self._rung = FIRST
        self._begun = False
        self._frames = 0
        self._frames_on_rung = 0
        self._since_s = clock()

    def choose(self, tensor: FloatArray) -> Choice:
        """The chain of the next frame.

        Args:
            tensor: that will be encoded; float32, finite.
        """
        if self._frames % MEASURE_EVERY == 0:
            self._look(tensor)
        self._frames += 1
        self._frames_on_rung += 1
        if not self._begun:
            self._begun = True
            return Choice(rung=self._rung, reason="to begin with, until the link is known")
        if self._frames <= WARM_UP or not self._measures:
            return Choice(rung=self._rung, reason="")
        rung, reason = self._best(tensor.size)
        if rung != self._rung:
            self._move(rung)
        return Choice(rung=self._rung, reason=reason)

    def follow(self, rung: int) -> None:
        """Take the choice that the log has."""
        self._frames += 1
        self._frames_on_rung += 1
        self._begun = True
        if rung != self._rung:
            self._move(rung)

    def _move(self, rung: int) -> None:
        self._rung, self._since_s, self._frames_on_rung = rung, self._clock(), 0

    def _look(self, tensor: FloatArray) -> None:
        rows = sample(tensor)
        try:
            if not self._measures:
                for chain in self._chains:  # what is compiled or loaded now is not later
                    self._measure(chain, rows)
            found = [self._measure(chain, rows) for chain in self._chains]
        except EncodeError:
            return  # which one and why is told when it is encoded
        before = self._measures or found
        self._measures = [_mixed(old, new) for old, new in zip(before, found, strict=True)]

    def _best(self, elements: int) -> tuple[int, str]:
        """The rung to take, and why when it is another one."""
        link, floor_db = self._seconds_per_byte(), self._floor_db()
        if link is None:
            return self._rung, ""
        times = [
            elements * (each.seconds_per_element + each.bytes_per_element * link)
            for each in self._measures
        ]
        good = [i for i, each in enumerate(self._measures) if each.snr_db >= floor_db] or [0]
        best, now = min(good, key=times.__getitem__), self._rung
        rate = f"{1e-6 / link:.3g} MB/s" if link else "no time for bytes"
        if now not in good:
            return best, (
                f"{self._measures[now].snr_db:.1f} dB are below the floor of {floor_db:.1f} dB; "
                f"{self._text(best, times)} ({rate})"
            )
        dwelt = self._frames_on_rung > DWELL_FRAMES and self._clock() - self._since_s >= DWELL_S
        begins = self._frames == WARM_UP + 1
        if best == now or not (dwelt or begins) or times[best] > (1 - GAIN) * times[now]:
            return now, ""
        return best, f"{self._text(best, times)} instead of {1e3 * times[now]:.3g} ms ({rate})"

    def _text(self, rung: int, times: Sequence[float]) -> str:
        return f"{1e3 * times[rung]:.3g} ms at {self._measures[rung].snr_db:.1f} dB"


def _mixed(old: Measure, new: Measure) -> Measure:
    """The new look does not replace the old one: its seconds are noisy."""
    return Measure(
        bytes_per_element=(1 - TRUST) * old.bytes_per_element + TRUST * new.bytes_per_element,
        seconds_per_element=(1 - TRUST) * old.seconds_per_element + TRUST * new.seconds_per_element,
        snr_db=(1 - TRUST) * old.snr_db + TRUST * new.snr_db,
    )
