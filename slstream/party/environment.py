"""What a party's bits depend on besides its data and seeds."""

from __future__ import annotations

import hashlib
import os
import platform
from importlib.metadata import version
from pathlib import Path

import torch

from slstream.party.device import CPU, Device

_CPUINFO = Path("/proc/cpuinfo")
_IDENTITY = (
    *("vendor_id", "cpu family", "model", "stepping"),
    *("CPU implementer", "CPU architecture", "CPU variant", "CPU part", "CPU revision"),
    "cache size",
)
"""Fields of x86 and ARM: libraries of linear algebra choose kernels and block sizes by these."""
_EXTENSIONS = ("amx", "asimd", "avx", "bf16", "f16c", "fma", "i8mm", "sme", "sse", "sve")
"""First letters of the flags that they choose by. Others come and go with the kernel."""


def environment(threads: int, device: Device = CPU) -> dict[str, str]:
    """The environment fingerprint: equal ones give equal bits, different ones may not.

    Args:
        threads: of the compute thread.
        device: where the party's models are.
    """
    return {
        "slstream": version("slstream"),
        "python": platform.python_version(),
        "machine": platform.machine(),
        "processor": processor(_CPUINFO.read_text() if _CPUINFO.exists() else ""),
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
        **device.fingerprint(),
    }


def processor(cpuinfo: str) -> str:
    """What tells a processor's kernels from another one's of the same capability.

    Two that both have AVX-512 gave sums of other bits with the same build of torch.

    Args:
        cpuinfo: text of /proc/cpuinfo; its first processor stands for all.

    Returns:
        Vendor, numbers and cache, and a digest of the vector extensions.
    """
    first = cpuinfo.split("\n\n", 1)[0]
    pairs = (line.partition(":") for line in first.splitlines())
    fields = {name.strip(): value.strip() for name, _, value in pairs}
    flags = (fields.get("flags") or fields.get("Features") or "").split()
    extensions = " ".join(sorted(flag for flag in flags if flag.startswith(_EXTENSIONS)))
    known = [fields[name] for name in _IDENTITY if name in fields]
    return " ".join([*known, hashlib.sha256(extensions.encode()).hexdigest()[:8]])
