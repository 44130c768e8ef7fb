from __future__ import annotations

import numpy as np
import pytest

from slstream.errors import LocalProtocolError
from slstream.party.recent_activations import Place, RecentActivations


def test_they_are_asked_for_in_order_and_dropped_behind_that() -> None:
    recent = RecentActivations()
    places: list[Place] = [(1, 1, 0), (1, 1, 1), (1, 2, 0), (2, 1, 0)]
    for number, place in enumerate(places):
        recent.keep(place, np.full((1, 1), number, np.float32))
    for number, place in enumerate(places):
        for _ in range(2):  # a replay asks again
            assert recent.get(place)[0, 0] == number
    for place in places[:-1]:
        with pytest.raises(LocalProtocolError, match=f"of epoch {place[0]}, step {place[1]}, "):
            recent.get(place)
    assert [*recent.kept()] == ["2.1.0"]


def test_what_is_kept_can_be_kept_elsewhere() -> None:
    recent, other = RecentActivations(), RecentActivations()
    places: list[Place] = [(1, 9, 0), (1, 10, 0), (1, 10, 1)]
    for number, place in enumerate(places):
        recent.keep(place, np.full((1, 1), number, np.float32))
    other.keep((1, 1, 0), np.zeros((1, 1), np.float32))
    other.restore(dict(reversed(recent.kept().items())))
    for number, place in enumerate(places):
        assert other.get(place)[0, 0] == number
