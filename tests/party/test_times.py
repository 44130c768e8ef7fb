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
    spent = times.spent(7.0)
    assert (spent.codec_s, spent.waiting_s, spent.total_s) == (times.codec_s, 0.0, 7.0)
    times.clear()
    assert times == Times()
