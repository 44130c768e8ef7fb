"""The devices that codecs are tried on: torch's CPU everywhere, a GPU where there is one."""

from __future__ import annotations

import pytest
import torch

NO_GPU = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="torch finds no CUDA device on this machine"
)

DEVICES = [
    pytest.param(torch.device("cpu"), id="cpu"),
    pytest.param(torch.device("cuda"), id="cuda", marks=NO_GPU),
]
