from __future__ import annotations

import pytest
import torch

from slstream.party.environment import environment, processor
from slstream.protocol.messages import Join, decode_message, encode_message


def test_what_decides_the_bits_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ATEN_CPU_CAPABILITY", raising=False)
    found = environment(2)
    assert found["threads"] == "2"
    assert found["torch"] == torch.__version__
    assert {"slstream", "python", "numpy", "numba", "cpu_capability", "torch_build"} <= set(found)
    assert len(found["processor"]) > len("0123abcd")
    assert "aten_cpu_capability" not in found
    monkeypatch.setenv("ATEN_CPU_CAPABILITY", "avx2")
    assert environment(2) == {**found, "aten_cpu_capability": "avx2"}


CPUINFO = """processor\t: 0
vendor_id\t: GenuineIntel
cpu family\t: 6
model\t\t: 207
model name\t: Intel(R) Xeon(R) Processor
stepping\t: 2
cpu MHz\t\t: 2300.000
cache size\t: 266240 KB
flags\t\t: fpu sse2 avx2 avx512f amx_tile

processor\t: 1
vendor_id\t: GenuineIntel
model\t\t: 1
"""


def test_a_processor_is_known_by_what_libraries_choose_kernels_by() -> None:
    found = processor(CPUINFO)
    assert found.startswith("GenuineIntel 6 207 2 266240 KB ")
    for before, after in (
        ("model\t\t: 207", "model\t\t: 143"),
        ("266240", "107520"),
        ("amx_tile", "amx_bf16"),
    ):
        assert processor(CPUINFO.replace(before, after)) != found
    for before, after in (
        ("2300.000", "2100.123"),
        ("fpu", "fpu new"),
        ("avx2 avx512f", "avx512f avx2"),
    ):
        assert processor(CPUINFO.replace(before, after)) == found


def test_a_processor_of_another_kind_has_a_name_too() -> None:
    arm = "processor\t: 0\nFeatures\t: fp asimd sve\nCPU implementer\t: 0x41\nCPU part\t: 0xd40\n"
    assert processor(arm).startswith("0x41 0xd40 ")
    assert processor(arm) != processor(arm.replace(" sve", ""))
    assert processor("") == processor("anything")


def test_it_fits_into_a_message() -> None:
    join = Join(digest="0" * 64, rows=1, cut=[1], schemas={}, environment=environment(1))
    assert decode_message(encode_message(join)) == join
