"""The chains that a sender may choose among, from the finest to the coarsest."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from slstream.codecs.chain import CodecChain
from slstream.codecs.defaults import Configs

Rungs = tuple[Configs, ...]


def _ladder(rounding: str, *steps: float, last: str = "ecsq") -> Rungs:
    return (
        ({"id": "raw32"},),
        ({"id": "fp16"},),
        ({"id": "q8row", "rounding": rounding},),
        ({"id": "q4row", "rounding": rounding},),
        *(({"id": last, "step": step, "rounding": rounding},) for step in steps),
    )


LADDERS: Final[Mapping[int, Mapping[str, Rungs]]] = MappingProxyType(
    {
        2: MappingProxyType(
            {
                "forward": _ladder("nearest", 0.25, 0.5, 1.0),
                "backward": _ladder("stochastic", 0.5, 1.0, 2.0),
            }
        ),
        3: MappingProxyType(
            {
                "forward": _ladder("nearest", 0.25, 0.5, 1.0),
                "backward": _ladder("stochastic", 0.5, 1.0, 2.0, last="ecsq_signs"),
            }
        ),
    }
)
"""By the number of the default codecs and by direction. None is ever changed: there are sessions
with it. Chains without a state: one that is not used for a while costs nothing."""


def ladder(number: int, direction: str) -> tuple[CodecChain, ...]:
    """The chains of a direction.

    Args:
        number: of the default codecs.
        direction: ``forward`` or ``backward``.
    """
    return tuple(CodecChain.from_config(rung) for rung in LADDERS[number][direction])
