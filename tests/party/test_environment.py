from __future__ import annotations

import pytest
import torch

from slstream.party.environment import environment
from slstream.protocol.messages import Join, decode_message, encode_message


def test_what_decides_the_bits_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ATEN_CPU_CAPABILITY", raising=False)
    found = environment(2)
    assert found["threads"] == "2"
    assert found["torch"] == torch.__version__
    assert {"slstream", "python", "numpy", "numba", "cpu_capability", "torch_build"} <= set(found)
    assert "aten_cpu_capability" not in found
    monkeypatch.setenv("ATEN_CPU_CAPABILITY", "avx2")
    assert environment(2) == {**found, "aten_cpu_capability": "avx2"}


def test_it_fits_into_a_message() -> None:
    join = Join(digest="0" * 64, rows=1, cut=[1], schemas={}, environment=environment(1))
    assert decode_message(encode_message(join)) == join
