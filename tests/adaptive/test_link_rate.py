"""How long a byte takes, from transfers of different sizes."""

from __future__ import annotations

import math
import random
import sys
import threading

import pytest

from slstream.adaptive.link_rate import LinkRate

MESSAGE = 300
FRAME = 1_000_000


class Way:
    """A way whose transfers take a delay and the time of their bytes."""

    def __init__(self, delay_s: float, bytes_per_s: float, *, clock_s: float = 0.0) -> None:
        self.rate = LinkRate()
        self.delay_s = delay_s
        self.bytes_per_s = bytes_per_s
        self.clock_s = clock_s

    def transfers(self, *sizes: int, late_s: float = 0.0, at_most_s: float = math.inf) -> None:
        for size in sizes:
            took_s = self.delay_s + size / self.bytes_per_s + self.clock_s + late_s
            self.rate.add(size, took_s, at_most_s=at_most_s)


def test_nothing_is_known_before_a_transfer_can_be_compared() -> None:
    way = Way(0.02, 1e6)
    assert way.rate.seconds_per_byte is None
    way.transfers(MESSAGE, MESSAGE)
    assert way.rate.seconds_per_byte is None
    way = Way(0.02, 1e6)
    way.transfers(FRAME, FRAME, FRAME // 2)
    assert way.rate.seconds_per_byte is None
    way.transfers(MESSAGE)
    assert way.rate.seconds_per_byte == pytest.approx(1e-6, rel=0.02)


@pytest.mark.parametrize("clock_s", [0.0, -3600.0, 3600.0])
@pytest.mark.parametrize("delay_s", [0.0001, 0.05])
def test_the_delay_and_the_clocks_do_not_count(delay_s: float, clock_s: float) -> None:
    way = Way(delay_s, 1e6, clock_s=clock_s)
    way.transfers(MESSAGE, FRAME, FRAME)
    assert way.rate.seconds_per_byte == pytest.approx(1e-6, rel=0.02)


def test_what_a_transfer_cannot_have_taken_does_not_count() -> None:
    way = Way(0.02, 1e6)
    way.transfers(MESSAGE)
    way.transfers(FRAME, FRAME, late_s=6.0, at_most_s=0.2)
    assert way.rate.seconds_per_byte == pytest.approx(2e-7, rel=0.02)


def test_what_was_queued_had_no_delay() -> None:
    rate = LinkRate()
    rate.add_queued(FRAME, 1.0)
    assert rate.seconds_per_byte == pytest.approx(1e-6, rel=0.02)


def test_a_change_is_followed_and_what_happens_once_is_not() -> None:
    way = Way(0.02, 1e7)
    way.transfers(MESSAGE, *[FRAME] * 8)
    for late_s in (0.5, -0.05):
        way.transfers(FRAME, late_s=late_s)
        assert way.rate.seconds_per_byte == pytest.approx(1e-7, rel=0.02)
        way.transfers(*[FRAME] * 4)
    way.bytes_per_s = 1e6
    way.transfers(*[FRAME] * 3)
    assert way.rate.seconds_per_byte == pytest.approx(1e-7, rel=0.02)
    way.transfers(FRAME)
    assert way.rate.seconds_per_byte == pytest.approx(1e-6, rel=0.02)
    way.transfers(FRAME)
    way.bytes_per_s = 1e7
    way.transfers(FRAME)
    assert way.rate.seconds_per_byte == pytest.approx(1e-6, rel=0.02)
    way.transfers(FRAME)
    assert way.rate.seconds_per_byte == pytest.approx(1e-7, rel=0.02)


def test_what_makes_transfers_late_by_chance_is_not_taken_for_the_way() -> None:
    way, noise, found = Way(0.02, 1e9), random.Random(0), []
    for _ in range(300):
        way.transfers(MESSAGE, late_s=noise.uniform(0, 0.001))
        way.transfers(FRAME, late_s=noise.uniform(0, 0.001))  # as much as its bytes take
        found.append(way.rate.seconds_per_byte)
    assert len(set(found[50:])) < 20, "the range of most holds what was estimated"
    assert found[-1] == pytest.approx(5e-10, abs=5e-10)


def test_what_one_short_transfer_tells_is_taken_for_the_slowest_that_it_allows() -> None:
    way = Way(0.02, 1e8)
    way.transfers(MESSAGE, FRAME // 20)  # half a millisecond: the way may be without limits
    assert way.rate.seconds_per_byte == pytest.approx(1e-8, rel=0.02)


def test_transfers_that_are_over_at_once_do_not_make_one_forget() -> None:
    """A link is known from large frames; then smaller ones are sent, which tell little of it."""
    way, noise = Way(0.02, 1e8), random.Random(1)
    way.transfers(MESSAGE, *[FRAME] * 5)
    known = way.rate.seconds_per_byte
    assert known == pytest.approx(1e-8, rel=0.11)
    for _ in range(100):
        way.transfers(FRAME // 20, late_s=noise.uniform(0, 0.0005))
        assert way.rate.seconds_per_byte == known
    way.bytes_per_s = 1e7
    way.transfers(*[FRAME // 20] * 5)
    assert way.rate.seconds_per_byte == pytest.approx(1e-7, rel=0.25)


@pytest.mark.parametrize("step_s", [0.1, -0.1])
def test_a_delay_that_changes_or_a_clock_that_is_set_is_noticed_by_messages(step_s: float) -> None:
    way = Way(0.02, 1e6)
    way.transfers(*[MESSAGE] * 9, *[FRAME] * 9)
    way.clock_s = step_s
    way.transfers(*[FRAME] * 9)
    assert way.rate.seconds_per_byte is not None
    way.transfers(*[MESSAGE] * 3, *[FRAME] * 5)
    assert way.rate.seconds_per_byte == pytest.approx(1e-6, rel=0.02)


def test_bytes_never_take_negative_time() -> None:
    way = Way(0.02, 1e9)
    way.transfers(MESSAGE)
    way.delay_s = 0.01
    way.transfers(FRAME, FRAME, FRAME)
    assert way.rate.seconds_per_byte == 0.0


def test_what_is_remembered_is_bounded() -> None:
    way = Way(0.02, 1e6)
    way.transfers(*[1 << bits for bits in range(24)] * 50)
    rate = way.rate
    assert sum(map(len, rate._took_s.values())) <= 24 * 3
    assert len(rate._rated) == 5


def test_one_thread_may_look_while_another_notes() -> None:
    way, wrong = Way(0.02, 1e6), []
    way.transfers(MESSAGE, FRAME)
    done = threading.Event()

    def look() -> None:
        while not done.is_set():
            if way.rate.seconds_per_byte != pytest.approx(1e-6, rel=0.02):
                wrong.append(way.rate.seconds_per_byte)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    thread = threading.Thread(target=look)
    try:
        thread.start()
        for bits in range(200):
            way.transfers(MESSAGE + bits, FRAME)
    finally:
        done.set()
        thread.join()
        sys.setswitchinterval(interval)
    assert not wrong
