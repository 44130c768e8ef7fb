"""Which chain the next frame takes."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest

from slstream.adaptive.controller import (
    DWELL_FRAMES,
    DWELL_S,
    MEASURE_EVERY,
    WARM_UP,
    Choice,
    Controller,
)
from slstream.adaptive.measure import Measure
from slstream.codecs.chain import CodecChain
from slstream.codecs.contract import FloatArray
from slstream.errors import EncodeError

RUNGS = [
    # bytes and seconds for each element, dB
    (4.0, 0.0, 200.0),
    (2.0, 1e-10, 70.0),
    (0.5, 1e-9, 20.0),
    (0.2, 5e-9, 13.0),
]
RAW, HALF, ROW, COARSE = range(4)
SLOW, MIDDLE, FAST = 1e-6, 8e-9, 1e-10
"""Seconds per byte at which COARSE, ROW and HALF are the quickest."""
TENSOR = np.ones((100, 100), np.float32)


@dataclass
class Bench:
    """A controller whose link, clock and measures are given."""

    link: float | None = SLOW
    floor_db: float = 12.0
    now_s: float = 0.0
    frame_s: float = 0.1
    rungs: list[tuple[float, float, float]] = field(default_factory=lambda: list(RUNGS))
    row_s: float = 0.0
    tensor: FloatArray = field(default_factory=lambda: TENSOR)
    looks: int = 0
    refused: bool = False

    def __post_init__(self) -> None:
        self.chains = [
            CodecChain.from_config([{"id": codec}]) for codec in ("raw32", "fp16", "q4row", "ecsq")
        ]
        self.controller = Controller(
            self.chains,
            seconds_per_byte=lambda: self.link,
            floor_db=lambda: self.floor_db,
            clock=lambda: self.now_s,
            measure=self.measure,
        )

    def measure(self, chain: CodecChain, rows: FloatArray) -> Measure:
        if self.refused:
            raise EncodeError("no")
        self.looks += 1
        size, seconds, snr_db = self.rungs[self.chains.index(chain)]
        return Measure(
            elements=rows.size,
            bytes_per_element=size,
            row_s=self.row_s,
            rows_s=seconds * rows.size,
            snr_db=snr_db,
        )

    def choose(self, frames: int = 1) -> list[Choice]:
        choices = []
        for _ in range(frames):
            self.now_s += self.frame_s
            choices.append(self.controller.choose(self.tensor))
        return choices

    def settle(self) -> int:
        """The rung after enough frames for a first choice and one more."""
        return self.choose(WARM_UP + 2 * DWELL_FRAMES + 10)[-1].rung


def test_begins_with_the_coarsest_chain_that_is_good_enough_and_says_so() -> None:
    (first,) = Bench(link=None).choose()
    assert first.rung == COARSE
    assert "to begin with" in first.reason
    (first,) = Bench(link=None, floor_db=15.0).choose()
    assert first.rung == ROW
    (first,) = Bench(link=None, floor_db=500.0).choose()
    assert first.rung == RAW


@pytest.mark.parametrize(
    ("link", "rung"), [(SLOW, COARSE), (MIDDLE, ROW), (FAST, HALF), (None, COARSE)]
)
def test_takes_what_the_link_carries_quickest(link: float | None, rung: int) -> None:
    assert Bench(link=link, frame_s=0.0001).settle() == rung


def test_a_change_is_explained_and_said_once() -> None:
    told = [c for c in Bench(link=MIDDLE, frame_s=0.0001).choose(100) if c.reason]
    assert [choice.rung for choice in told] == [COARSE, ROW]
    assert told[1].reason == "0.05 ms at 20.0 dB instead of 0.066 ms (125 MB/s)"


def test_more_bytes_must_save_a_part_of_the_step() -> None:
    bench = Bench(link=MIDDLE, frame_s=0.1)  # ROW would save a hundredth of a ms
    assert bench.settle() == COARSE
    bench = Bench(link=MIDDLE, frame_s=0.1)
    bench.controller.follow(RAW)
    assert bench.settle() == ROW, "fewer bytes need not"


def test_small_gains_do_not_count() -> None:
    bench = Bench(link=SLOW, frame_s=0.01)
    bench.choose(WARM_UP + 1)
    # From now on the finer one is 12 % better, which is not enough.
    bench.rungs[ROW] = (0.176, 5e-9, 20.0)
    assert bench.choose(12 * MEASURE_EVERY)[-1].rung == COARSE
    bench.rungs[ROW] = (0.05, 5e-9, 20.0)
    assert bench.choose(4 * MEASURE_EVERY)[-1].rung == ROW


def test_a_new_choice_waits_for_frames_and_for_time() -> None:
    bench = Bench(link=100 * SLOW, frame_s=0.001)
    bench.choose(WARM_UP + 1)
    bench.rungs = [(1.0, 1e-9, 200.0), *((9.0, 1e-9, 30.0) for _ in range(3))]
    bench.controller._measures = []
    bench.controller._since_s = bench.now_s
    bench.controller._frames_on_rung = 0
    choices = bench.choose(round(2 * DWELL_S / 0.001))
    moved = next(i for i, choice in enumerate(choices) if choice.rung == RAW)
    assert 0.001 * (moved + 1) == pytest.approx(DWELL_S, rel=0.02)
    bench = Bench(link=100 * SLOW, frame_s=10.0)
    bench.choose(WARM_UP + 1)
    bench.rungs = [(1.0, 1e-9, 200.0), *((9.0, 1e-9, 30.0) for _ in range(3))]
    bench.controller._measures = []
    bench.controller._frames_on_rung = 0
    choices = bench.choose(40)
    assert [choice.rung for choice in choices].index(RAW) == DWELL_FRAMES


def test_what_is_too_coarse_is_left_at_once() -> None:
    bench = Bench(link=SLOW)
    bench.choose(WARM_UP + 1)
    bench.floor_db = 16.0
    (next_one,) = bench.choose()
    assert next_one.rung == ROW
    assert next_one.reason == "13.0 dB would be below the floor of 16.0 dB"
    bench.link, bench.floor_db = None, 30.0
    assert bench.choose()[0].rung == HALF


def test_a_gradient_that_becomes_harder_is_measured_again() -> None:
    bench = Bench(link=SLOW)
    bench.choose(WARM_UP + 1)
    bench.rungs[COARSE] = (0.2, 5e-9, 5.0)
    assert bench.choose(4 * MEASURE_EVERY)[-1].rung == ROW


def test_a_coarser_chain_must_be_above_the_floor_by_a_margin() -> None:
    bench = Bench(link=SLOW, floor_db=12.5)
    assert bench.settle() == COARSE, "to begin with, and to stay, the floor is enough"
    bench = Bench(link=SLOW, floor_db=12.5)
    bench.controller.follow(ROW)
    assert bench.settle() == ROW
    bench.rungs[COARSE] = (0.2, 5e-9, 13.6)
    assert bench.choose(2 * MEASURE_EVERY)[-1].rung == COARSE


@pytest.mark.parametrize("nothing", [0.0, np.nan, np.inf])
def test_a_tensor_that_tells_nothing_is_not_looked_at(nothing: float) -> None:
    bench = Bench()
    bench.controller.choose(np.full((4, 4), nothing, np.float32))
    assert bench.looks == 0
    bench.choose()
    assert bench.looks > 0


def test_the_time_before_the_first_frame_is_no_step() -> None:
    bench = Bench(link=MIDDLE, frame_s=0.0001)
    bench.now_s += 3600
    bench.controller.follow(COARSE)
    bench.now_s += 3600
    assert bench.settle() == ROW


def test_a_look_that_was_disturbed_counts_for_nothing() -> None:
    bench = Bench(link=SLOW, frame_s=0.01)
    bench.choose(WARM_UP + 1)
    bench.rungs[COARSE] = (0.2, 1e-3, 13.0)  # as if the processor had been taken away
    assert bench.choose(5 * MEASURE_EVERY)[-1].rung == COARSE
    assert bench.choose(100 * MEASURE_EVERY)[-1].rung != COARSE, "it stayed so"


def test_a_first_row_that_was_disturbed_does_not_make_a_chain_look_quick() -> None:
    bench = Bench(link=MIDDLE, frame_s=0.01, tensor=np.ones((10_000, 100), np.float32))
    assert bench.settle() == ROW
    bench.row_s = 1.0  # as long as its rows, of which nothing seems to be left for the elements
    assert {choice.rung for choice in bench.choose(4 * MEASURE_EVERY)} == {ROW}


def test_looks_at_all_chains_every_so_many_frames() -> None:
    bench = Bench()
    bench.choose()
    first = bench.looks
    assert first == 2 * len(RUNGS), "what the first look compiles is not its cost"
    bench.choose(MEASURE_EVERY - 1)
    assert bench.looks == first
    bench.choose()
    assert bench.looks == first + len(RUNGS)


def test_a_tensor_that_a_chain_refuses_changes_nothing() -> None:
    bench = Bench(refused=True)
    assert bench.choose(3) == [Choice(rung=RAW, reason="")] * 3
    bench.refused = False
    assert bench.choose()[0].rung == COARSE


def test_follows_what_the_log_has_and_goes_on_from_there() -> None:
    bench = Bench(link=SLOW)
    for _ in range(20):
        bench.controller.follow(HALF)
    assert bench.looks == 0
    (first,) = bench.choose()
    assert (first.rung, bool(first.reason)) == (COARSE, True)
