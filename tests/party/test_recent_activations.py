from __future__ import annotations

import numpy as np
import pytest

from slstream.errors import LocalProtocolError
from slstream.party.recent_activations import MOST, RecentActivations


def test_the_latest_are_kept() -> None:
    recent = RecentActivations()
    for step in range(1, MOST + 2):
        recent.keep(3, step, np.full((1, 1), step, np.float32))
    assert all(recent.get(3, step)[0, 0] == step for step in range(2, MOST + 2))
    for epoch, step in ((3, 1), (2, 2), (3, MOST + 2)):
        with pytest.raises(LocalProtocolError, match=f"of epoch {epoch}, step {step}"):
            recent.get(epoch, step)
