"""What several seeds say of a difference: runs in pairs that differ in one thing alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean, stdev

from slstream.bench.report import Result
from slstream.topology import Topology

CLAIM_SEEDS = 5
"""With fewer pairs the standard error is too uncertain for a claim."""


def with_seed(topology: Topology, seed: int) -> Topology:
    """The same federation with another seed: other weights, validation rows and batches."""
    return Topology.from_dict({**topology.document.value, "seed": seed}, root=topology.root)


def delta_results(
    deltas: Sequence[float], *, prefix: str, target: str | None = None, holds: bool | None = None
) -> list[Result]:
    """Mean and, with two pairs or more, standard error of differences in points.

    Args:
        deltas: one for each pair, in points: hundredths of a metric.
        prefix: of the results' names.
        target: of the mean.
        holds: whether it is met.
    """
    name = f"{prefix}_delta_points"
    results = [Result(name=name, value=fmean(deltas), unit="points", target=target, holds=holds)]
    if len(deltas) > 1:
        error = standard_error(deltas)
        results.append(Result(name=f"{prefix}_delta_standard_error", value=error, unit="points"))
    return results


def standard_error(deltas: Sequence[float]) -> float:
    """Of the mean; 0 when there is one difference only."""
    return stdev(deltas) / math.sqrt(len(deltas)) if len(deltas) > 1 else 0.0
