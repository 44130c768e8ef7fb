from __future__ import annotations

import numpy as np
import pytest
import torch

from slstream.codecs.contract import CodecContext
from slstream.codecs.on_device.row_integers import _noise
from slstream.codecs.quantiser import fill_noise, noise_keys
from tests.codecs.on_device.devices import DEVICES


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("seed", [0, 1, 2**63 + 5, 2**64 - 1])
def test_noise_is_that_of_the_host(seed: int, device: torch.device) -> None:
    context = CodecContext(seed=seed, counter=1 << 40 | 3)
    expected = np.empty(100_000, np.float32)
    fill_noise(expected, np.uint32(0), *noise_keys(context))
    found = _noise(expected.size, context, device).cpu().numpy()
    assert found.tobytes() == expected.tobytes()
