"""Chooses the chain of the next frame of one direction of a link."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import median
from time import monotonic

import numpy as np

from slstream.adaptive.measure import Measure, measure, sample
from slstream.codecs.chain import CodecChain
from slstream.codecs.contract import FloatArray
from slstream.errors import EncodeError

MEASURE_EVERY = 64
"""Frames from one look at all chains to the next."""
FORGET = 0.1
"""What disturbs a look only adds to its seconds, so the least of all looks counts; this part is
added to it from look to look, as a processor may really have become slower."""
WARM_UP = 4
"""Frames on the first rung, at least: until the link is known."""
GAIN = 0.15
"""Part of the predicted time that another chain must save."""
WORTH = 0.05
"""Part of the time from one frame to the next that a chain with more bytes must save, too: bytes
have other costs than time."""
INTERVALS = 9
"""The latest times from one frame to the next, of which the median is the time of a step."""
MARGIN_DB = 1.0
"""By which a chain must be above the floor before it takes the place of a finer one."""
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
    is taken, but a change must save a part of the time, and stands for a while.
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
        """Begin with the coarsest chain that is good enough, as the link may be slow.

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
        self._rung = 0
        self._begun = False
        self._link_known = False
        self._frames = 0
        self._frames_on_rung = 0
        self._since_s = clock()
        self._last_s: float | None = None
        self._intervals: deque[float] = deque(maxlen=INTERVALS)

    def choose(self, tensor: FloatArray) -> Choice:
        """The chain of the next frame.

        Args:
            tensor: that will be encoded; float32, finite.
        """
        if not self._measures or self._frames % MEASURE_EVERY == 0:
            self._look(tensor)
        now_s = self._clock()
        if self._last_s is not None:
            self._intervals.append(now_s - self._last_s)
        self._last_s = now_s
        self._frames += 1
        self._frames_on_rung += 1
        if not self._measures:
            return Choice(rung=self._rung, reason="")
        if not self._begun:
            self._begun = True
            self._rung = len(self._chains) - 1
            self._move(self._good()[-1])
            return Choice(rung=self._rung, reason="to begin with, until the link is known")
        if self._frames <= WARM_UP:
            return Choice(rung=self._rung, reason="")
        rung, reason = self._best(tensor.size)
        if rung != self._rung:
            self._move(rung)
        return Choice(rung=self._rung, reason=reason)

    def follow(self, rung: int) -> None:
        """Take the choice that the log has."""
        self._last_s = None
        self._frames += 1
        self._frames_on_rung += 1
        self._begun = True
        if rung != self._rung:
            self._move(rung)

    def _move(self, rung: int) -> None:
        self._rung, self._since_s, self._frames_on_rung = rung, self._clock(), 0

    def _look(self, tensor: FloatArray) -> None:
        rows = sample(tensor)
        if not (rows.any() and np.isfinite(rows).all()):
            return  # it tells nothing
        try:
            if not self._measures:
                for chain in self._chains:  # what is compiled or loaded now is not later
                    self._measure(chain, rows)
            found = [self._measure(chain, rows) for chain in self._chains]
        except EncodeError:
            return  # which one and why is told when it is encoded
        before = self._measures or found
        self._measures = [_joined(old, new) for old, new in zip(before, found, strict=True)]

    def _best(self, elements: int) -> tuple[int, str]:
        """The rung to take, and why when it is another one."""
        link, good, now = self._seconds_per_byte(), self._good(), self._rung
        if link is None:
            best = now if now in good else good[-1]
            return best, "" if best == now else self._too_coarse(now)
        times = [
            each.seconds(elements) + elements * each.bytes_per_element * link
            for each in self._measures
        ]
        best = min(good, key=times.__getitem__)
        if now not in good:
            return best, self._too_coarse(now)
        dwelt = self._frames_on_rung > DWELL_FRAMES and self._clock() - self._since_s >= DWELL_S
        begins, self._link_known = not self._link_known, True
        wanted = GAIN * times[now]
        if self._measures[best].bytes_per_element > self._measures[now].bytes_per_element:
            step_s = median(self._intervals or (0.0,))
            wanted = max(wanted, WORTH * step_s)
        if best == now or not (dwelt or begins) or times[now] - times[best] < wanted:
            return now, ""
        rate = f"{1e-6 / link:.3g} MB/s" if link else "no time for bytes"
        return best, (
            f"{1e3 * times[best]:.3g} ms at {self._measures[best].snr_db:.1f} dB instead of "
            f"{1e3 * times[now]:.3g} ms ({rate})"
        )

    def _good(self) -> list[int]:
        """The rungs that are good enough; the finest one in any case.

        A coarser one than the present one must be so by :data:`MARGIN_DB`.
        """
        floor_db = self._floor_db()
        margins = [MARGIN_DB if i > self._rung else 0.0 for i in range(len(self._measures))]
        enough = [
            each.snr_db >= floor_db + margin
            for each, margin in zip(self._measures, margins, strict=True)
        ]
        return [i for i, good in enumerate(enough) if good] or [0]

    def _too_coarse(self, rung: int) -> str:
        found = self._measures[rung].snr_db
        return f"{found:.1f} dB would be below the floor of {self._floor_db():.1f} dB"


def _joined(old: Measure, new: Measure) -> Measure:
    """The new look, with the least seconds."""
    return replace(
        new,
        row_s=min((1 + FORGET) * old.row_s, new.row_s),
        rows_s=min((1 + FORGET) * old.seconds(new.elements), new.rows_s),
    )
