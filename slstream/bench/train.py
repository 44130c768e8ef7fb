"""What compression saves in time: training through a slow link, with it and without.

Each seed is trained uncompressed (``raw32`` both ways, schedule ``sync``), and then with each chain
of codecs that is to be compared, through links of the same kind; see
:mod:`slstream.bench.shaped_run` for when the clock runs, and :mod:`slstream.bench.shaped_transport`
for what a link is. The runs of a seed share initial weights, validation rows and batches.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from statistics import fmean

from slstream.bench import plots
from slstream.bench.paired_seeds import CLAIM_SEEDS, delta_results, standard_error, with_seed
from slstream.bench.report import Report, Result, at_least
from slstream.bench.shaped_link import Link
from slstream.bench.shaped_run import ShapedRun, train
from slstream.errors import ConfigError, SlstreamError
from slstream.party.codec_choice import check_codecs
from slstream.party.summary import Summary
from slstream.protocol.early_stop import LOWER_IS_BETTER
from slstream.topology import Topology
from slstream.topology.document import parse_value
from slstream.topology.sections import ADAPTIVE

TARGET_POINTS = 0.3
"""By default the target is this far from the best metric of the uncompressed run of the seed."""

DELTA_POINTS = 0.1
"""What the metric may change by, beyond the standard error."""

AS_IT_IS = "topology"
"""Name of the run with the topology's own codecs."""

_TENSORS = ("activation", "gradient", "evaluation")
_RAW = {"forward": "raw32", "backward": "raw32", "evaluation": "raw32"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """A choice of codecs and schedule, and what came of it."""

    name: str
    topology: Topology
    runs: list[ShapedRun] = field(default_factory=list)
    """By seed."""


def run(
    topology: Topology,
    *,
    link: Link,
    codecs: Sequence[str] = (),
    schedule: str | None = None,
    target: float | None = None,
    seeds: int = 3,
    transport_url: str | None = None,
    plot: Path | None = None,
) -> Report:
    """Compare trainings through a link.

    Args:
        topology: its own seed is the first; all its data must be readable here.
        link: between each feature party and the log.
        codecs: each is compared, as YAML: a chain for both directions, ``adaptive``, or a whole
            section; none: the topology's own.
        schedule: of the compressed runs, as YAML; ``None``: the topology's own.
        target: value of the first metric that is to be reached; ``None``: see
            :data:`TARGET_POINTS`.
        seeds: number of pairs.
        transport_url: of the log; by default an embedded one in a temporary directory.
        plot: a folder that gets pictures.

    Raises:
        SlstreamError: a choice does not fit, a run failed, or there is nothing to draw with.
    """
    if plot is not None:
        plots.require_matplotlib()
    raw = Variant(name="uncompressed", topology=_changed(topology, codec=_RAW, schedule="sync"))
    variants = [_variant(topology, codec, schedule) for codec in (codecs or (None,))]
    metric, names = topology.metrics[0], _federations()
    for index in range(seeds):
        for variant in (raw, *variants):
            one = with_seed(variant.topology, topology.seed + index)
            variant.runs.append(_train(one, link, next(names), transport_url))
    targets = [_default_target(r, metric) if target is None else target for r in raw.runs]
    results = []
    for variant in variants:
        found = _results(variant.runs, raw.runs, metric, targets, link)
        prefix = f"{variant.name}/" if len(variants) > 1 else ""
        results += [replace(each, name=prefix + each.name) for each in found]
    if plot is not None:
        plots.write(plot, metric, raw.runs, {each.name: each.runs for each in variants})
    return Report(
        bench="train",
        results=(*results, *_uncompressed_results(raw.runs, metric, targets)),
        notes=(
            f"link of each feature party: {link}",
            f"metric: {metric}; seeds {topology.seed} to {topology.seed + seeds - 1}; "
            "seconds since the last party was ready",
            f"target: {', '.join(f'{each:.4f}' for each in targets)}",
            *(_description(each, metric, targets) for each in (raw, *variants)),
            *([] if seeds >= CLAIM_SEEDS else [f"a claim needs at least {CLAIM_SEEDS} seeds"]),
        ),
    )


def _changed(topology: Topology, **sections: object) -> Topology:
    """With other sections, and without a log of its own."""
    value = {**topology.document.value, **sections}
    value.pop("transport", None)
    return Topology.from_dict(value, root=topology.root)


def _variant(topology: Topology, codec: str | None, schedule: str | None) -> Variant:
    sections = {}
    if codec is not None:
        chosen = _parsed("--codec", codec)
        both_ways = (not isinstance(chosen, dict) or "id" in chosen) and chosen != ADAPTIVE
        sections["codec"] = {"forward": chosen, "backward": chosen} if both_ways else chosen
    if schedule is not None:
        sections["schedule"] = _parsed("--schedule", schedule)
    try:
        changed = _changed(topology, **sections)
        check_codecs(changed)
    except SlstreamError as error:
        options = {"--codec": codec, "--schedule": schedule}
        given = [f"{name} {text}" for name, text in options.items() if text is not None]
        raise ConfigError(f"with {' and '.join(given) or AS_IT_IS}: {error}") from error
    return Variant(name=codec or AS_IT_IS, topology=changed)


def _parsed(option: str, text: str) -> object:
    try:
        return parse_value(text)
    except ValueError as error:
        raise ConfigError(f"{option} {text}: {error}") from error


def _federations() -> Iterator[str]:
    """Names that a log which others use does not hold yet."""
    return (f"bench-train-{os.getpid()}-{number}" for number in count())


def _train(topology: Topology, link: Link, federation: str, url: str | None) -> ShapedRun:
    value = {**topology.document.value, "federation": federation}
    if url is not None:
        value["transport"] = url
    with tempfile.TemporaryDirectory(prefix="slstream-bench-") as directory:
        named = Topology.from_dict(value, root=topology.root)
        return train(named, link, directory=Path(directory))


def _default_target(uncompressed: ShapedRun, metric: str) -> float:
    best = uncompressed.best(metric)
    if metric in LOWER_IS_BETTER:  # no metric between 0 and 1, so points have no meaning
        return best * (1 + TARGET_POINTS / 100)
    return best - TARGET_POINTS / 100


def _results(
    runs: Sequence[ShapedRun],
    uncompressed: Sequence[ShapedRun],
    metric: str,
    targets: Sequence[float],
    link: Link,
) -> list[Result]:
    """What one choice of codecs came to."""
    results = []
    seconds, raw_seconds = (_mean_time(each, metric, targets) for each in (runs, uncompressed))
    if seconds and raw_seconds:
        speedup = raw_seconds / seconds
        results.append(at_least("time_to_target_speedup", speedup, "x", wanted_speedup(link)))
    ratios = [
        raw.bytes_per_step / r.bytes_per_step for r, raw in zip(runs, uncompressed, strict=True)
    ]
    results.append(Result(name="wire_ratio", value=fmean(ratios), unit="x"))
    deltas = [
        100 * (r.summary.metrics[metric] - raw.summary.metrics[metric])
        for r, raw in zip(runs, uncompressed, strict=True)
    ]
    claim = len(deltas) >= CLAIM_SEEDS
    within = abs(fmean(deltas)) <= DELTA_POINTS + standard_error(deltas)
    results += delta_results(
        deltas,
        prefix="metric",
        target=f"within {DELTA_POINTS:g} and the standard error" if claim else None,
        holds=within if claim else None,
    )
    return results + _measured("", runs, metric, seconds)


def _uncompressed_results(
    runs: Sequence[ShapedRun], metric: str, targets: Sequence[float]
) -> list[Result]:
    return _measured("uncompressed_", runs, metric, _mean_time(runs, metric, targets))


def _measured(
    prefix: str, runs: Sequence[ShapedRun], metric: str, seconds: float | None
) -> list[Result]:
    numbers: list[tuple[str, float, str]] = [
        ("training_s", fmean(r.training_s for r in runs), "s"),
        ("steps_per_s", fmean(r.steps_per_s for r in runs), "steps/s"),
        ("least_busy", fmean(_least_busy(r.summary) for r in runs), "of the time"),
        ("wire_bytes", fmean(r.summary.wire_bytes for r in runs), "bytes"),
        ("metric", fmean(r.summary.metrics[metric] for r in runs), metric),
    ]
    if seconds is not None:
        numbers.insert(0, ("time_to_target_s", seconds, "s"))
    return [Result(name=prefix + name, value=value, unit=unit) for name, value, unit in numbers]


def _least_busy(summary: Summary) -> float:
    """Part of the time that the party which has least to do spends on computing and codecs.

    Without the opening; the evaluations, in which the parties wait for each other, are in it.
    """
    return min(
        (spent.compute_s + spent.codec_s) / (spent.total_s - spent.opening_s)
        for spent in summary.time.values()
    )


def _mean_time(runs: Sequence[ShapedRun], metric: str, targets: Sequence[float]) -> float | None:
    """Seconds to the targets; ``None`` when one was not reached, as there is no mean then."""
    seconds = [run.time_to(metric, target) for run, target in zip(runs, targets, strict=True)]
    reached = [each for each in seconds if each is not None]
    return fmean(reached) if len(reached) == len(seconds) else None


def wanted_speedup(link: Link) -> float:
    """How many times shorter the time to the target should be, at least."""
    if link.rtt_s >= 0.05 and link.rate_bps <= 10e6:
        return 10.0
    return 3.0 if link.rtt_s >= 0.05 and link.rate_bps <= 100e6 else 1.0


def _description(variant: Variant, metric: str, targets: Sequence[float]) -> str:
    """The codecs and the schedule, and when the targets were reached."""
    traffic = [t for run in variant.runs for t in run.summary.traffic if t.kind in _TENSORS]
    codecs = sorted({f"{t.kind} {t.codec}" for t in traffic})
    epochs = [run.first_epoch(metric, t) for run, t in zip(variant.runs, targets, strict=True)]
    reached = ", ".join("not reached" if epoch is None else str(epoch) for epoch in epochs)
    schedule = variant.topology.schedule.name
    return f"{variant.name}: {'; '.join(codecs)}; {schedule}; target after epoch {reached}"
