"""What a party's bits depend on besides its data and seeds."""

from __future__ import annotations

import hashlib
import os
import platform
from importlib.metadata import version

import torch


def environment(threads: int) -> dict[str, str]:
    """The environment fingerprint: equal ones give equal bits, different ones may not.

    Args:
        threads: of the compute thread.
    """
    return {
        "slstream": version("slstream"),
        "python": platform.python_version(),
        "machine": platform.machine(),
        "torch": str(torch.__version__),
        "torch_build": hashlib.sha256(torch.__config__.show().encode()).hexdigest()[:16],
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "threads": str(threads),
        "numpy": version("numpy"),
        "numba": version("numba"),
        "zstandard": version("zstandard"),
        "lz4": version("lz4"),
        **{
            name.lower(): os.environ[name]
            for name in ("MKL_CBWR", "ONEDNN_MAX_CPU_ISA", "ATEN_CPU_CAPABILITY")
            if name in os.environ
        },
    }
