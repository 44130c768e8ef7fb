from __future__ import annotations

from time import sleep

import pytest

from slstream.party.times import Times


def test_blocks_add_up_also_when_they_raise() -> None:
    times = Times()
    with times.measure("codec_s"):
        sleep(0.01)
    with pytest.raises(ValueError, match="inside"), times.measure("transport_s"):
        raise ValueError("inside")
    assert 0.01 <= times.codec_s < 5
    assert 0 < times.transport_s < 5
    spent = times.spent(7.0, busy_s=0.0)
    assert (spent.codec_s, spent.waiting_s, spent.total_s) == (times.codec_s, 0.0, 7.0)
    times.clear()
    assert times == Times()


def test_parts_begin_with_training() -> None:
    times = Times()
    with times.measure("waiting_s"):
        sleep(0.01)
    times.end_opening(3.0, busy_s=2.0)
    times.codec_s = 0.5
    spent = times.spent(9.0, busy_s=6.0)
    assert (spent.opening_s, spent.waiting_s) == (3.0, 0.0)
    assert spent.compute_s == 3.5, "busy since the opening, without coding"


def test_the_times_of_earlier_processes_are_part_of_the_sum() -> None:
    earlier = Times()
    earlier.end_opening(3.0, busy_s=0.0)
    earlier.codec_s = 0.5
    times = Times()
    times.earlier = earlier.spent(9.0, busy_s=6.0)
    times.end_opening(1.0, busy_s=2.0)
    times.codec_s = 0.25
    spent = times.spent(4.0, busy_s=3.0)
    assert (spent.opening_s, spent.codec_s, spent.total_s) == (4.0, 0.75, 13.0)
    assert spent.compute_s == 5.5 + 0.75
    times.clear()
    assert times == Times(), "another session has no earlier processes"
