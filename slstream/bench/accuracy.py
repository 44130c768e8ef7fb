"""What compression costs in accuracy, and what it saves in bytes.

Each seed is trained twice: as a session with the topology's codecs, every party in a process of
its own, and as the same model in one process without compression, which equals a session with
``raw32`` to the bit. Seeds differ in initial weights, split into training and validation rows, and
batches; the two runs of a pair share all of these, so that their difference is compression alone.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from statistics import fmean

from slstream.bench.paired_seeds import CLAIM_SEEDS, delta_results, with_seed
from slstream.bench.report import Report, Result, at_least
from slstream.errors import ModelError
from slstream.party.centralised import train_centralised
from slstream.party.summary import Baseline, Summary
from slstream.protocol.early_stop import LOWER_IS_BETTER
from slstream.supervisor import run as run_session
from slstream.topology import Topology

WIRE_RATIO = 20.0
"""Times fewer bytes than float32 in the same framing, headers counted, that the defaults reach."""

DELTA_POINTS = 0.3
"""Points of the main metric that the defaults stay within."""


def run(topology: Topology, *, seeds: int) -> Report:
    """Measure a topology with its codecs.

    Args:
        topology: its own seed is the first; all its data must be readable here.
        seeds: number of pairs, at least 2.

    Raises:
        SlstreamError: a run failed, for instance because a table is not at hand.
    """
    pairs = [_pair(with_seed(topology, topology.seed + index)) for index in range(seeds)]
    metric = topology.metrics[0]
    results = [
        at_least("wire_ratio", fmean(s.ratio for s, _ in pairs), "x", WIRE_RATIO),
        Result(
            name="training_wire_ratio",
            value=fmean(_training_ratio(s) for s, _ in pairs),
            unit="x",
        ),
        *_delta_results(metric, pairs, prefix="metric", claim=seeds >= CLAIM_SEEDS),
    ]
    for other in topology.metrics[1:]:
        # Points are hundredths of a metric between 0 and 1; losses are not.
        if other not in LOWER_IS_BETTER and all(
            other in s.metrics and other in b.metrics for s, b in pairs
        ):
            results += _delta_results(other, pairs, prefix=other, claim=False)
    results += [
        Result(name="metric", value=fmean(s.metrics[metric] for s, _ in pairs), unit=metric),
        Result(
            name="uncompressed_metric",
            value=fmean(b.metrics[metric] for _, b in pairs),
            unit=metric,
        ),
        Result(name="wire_bytes", value=fmean(s.wire_bytes for s, _ in pairs), unit="bytes"),
        Result(name="raw_bytes", value=fmean(s.raw_bytes for s, _ in pairs), unit="bytes"),
    ]
    codecs = sorted({f"{t.kind}: {t.codec}" for s, _ in pairs for t in s.traffic})
    notes = [f"metric: {metric}; seeds {topology.seed} to {topology.seed + seeds - 1}", *codecs]
    if seeds < CLAIM_SEEDS:
        notes.append(f"a claim on the metric needs at least {CLAIM_SEEDS} seeds")
    return Report(bench="accuracy", results=tuple(results), notes=tuple(notes))


def _training_ratio(summary: Summary) -> float:
    """Of the frames of training steps alone: without opening, evaluations and messages."""
    frames = [t for t in summary.traffic if t.kind in ("activation", "gradient")]
    return sum(t.raw_bytes for t in frames) / sum(t.wire_bytes for t in frames)


def _delta_results(
    metric: str, pairs: list[tuple[Summary, Baseline]], *, prefix: str, claim: bool
) -> list[Result]:
    deltas = [100 * (s.metrics[metric] - b.metrics[metric]) for s, b in pairs]
    return delta_results(
        deltas,
        prefix=prefix,
        target=f"within {DELTA_POINTS:g}" if claim else None,
        holds=abs(fmean(deltas)) <= DELTA_POINTS if claim else None,
    )


def _pair(topology: Topology) -> tuple[Summary, Baseline]:
    # First in this process: a table that is not at hand is told here, before any other starts.
    baseline = train_centralised(topology)
    with tempfile.TemporaryDirectory(prefix="slstream-bench-") as directory:
        summary = run_session(topology, directory=Path(directory))
    metric = topology.metrics[0]
    for found, what in ((summary.metrics, "session"), (baseline.metrics, "uncompressed run")):
        if metric not in found:
            raise ModelError(
                f"the {what} of seed {topology.seed} ended without the metric {metric}: its "
                "validation rows do not define it, or its outputs are not finite"
            )
    return summary, baseline
