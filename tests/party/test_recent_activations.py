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
    assert len(recent._kept) == 1
