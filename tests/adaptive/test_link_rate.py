"""How long a byte takes, from transfers of different sizes."""

from __future__ import annotations

import pytest

from slstream.adaptive.link_rate import LinkRate

MESSAGE = 300
FRAME = 100_000


class Way:
    """A way whose transfers take a delay and the time of their bytes, one after another."""

    def __init__(self, delay_s: float, bytes_per_s: float, *, clock_s: float = 0.0) -> None:
        self.rate = LinkRate()
        self.delay_s = delay_s
        self.bytes_per_s = bytes_per_s
        self.clock_s = clock_s
        self.now_s = 1000.0
        self.free_s = 0.0

    def transfer(self, size: int, *, late_s: float = 0.0) -> None:
        self.free_s = max(self.free_s, self.now_s) + size / self.bytes_per_s
        ended_s = self.free_s + self.delay_s + late_s
        self.rate.add(size, self.now_s, ended_s + self.clock_s)

    def transfers(self, *sizes: int) -> None:
        for size in sizes:
            self.now_s += 1.0
            self.transfer(size)


def test_nothing_is_known_before_a_transfer_can_be_compared() -> None:
    way = Way(0.02, 1e6)
    assert way.rate.seconds_per_byte is None
    way.transfers(MESSAGE, MESSAGE)
    assert way.rate.seconds_per_byte is None
    way = Way(0.02, 1e6)
    way.transfers(FRAME, FRAME)
    assert way.rate.seconds_per_byte is None
    way.transfers(MESSAGE)
    assert way.rate.seconds_per_byte == pytest.approx(1e-6, rel=0.01)


@pytest.mark.parametrize("clock_s", [0.0, -3600.0, 3600.0])
@pytest.mark.parametrize("delay_s", [0.0001, 0.05])
def test_the_delay_and_the_clocks_do_not_count(delay_s: float, clock_s: float) -> None:
    way = Way(delay_s, 1e6, clock_s=clock_s)
    way.transfers(MESSAGE, FRAME, FRAME)
    assert way.rate.seconds_per_byte == pytest.approx(1e-6, rel=0.01)


def test_a_transfer_that_waited_for_another_counts_from_its_end() -> None:
    way = Way(0.02, 1e6)
    way.transfers(MESSAGE)
    for _ in range(8):  # all begin at once
        way.transfer(FRAME)
    assert way.rate.seconds_per_byte == pytest.approx(1e-6, rel=0.01)


def test_three_transfers_after_a_change_it_is_followed_and_one_late_one_is_not() -> None:
    way = Way(0.02, 1e7)
    way.transfers(MESSAGE, *[FRAME] * 8)
    way.now_s += 1.0
    way.transfer(FRAME, late_s=0.5)
    assert way.rate.seconds_per_byte == pytest.approx(1e-7, rel=0.01)
    way.transfers(FRAME, FRAME, FRAME, FRAME)
    way.bytes_per_s = 1e6
    way.transfers(FRAME, FRAME)
    assert way.rate.seconds_per_byte == pytest.approx(1e-7, rel=0.01)
    way.transfers(FRAME)
    assert way.rate.seconds_per_byte == pytest.approx(1e-6, rel=0.01)


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
    assert sum(map(len, rate._took_s.values())) <= 24 * 8
    assert len(rate._rated) == 5
