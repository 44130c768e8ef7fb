"""Pictures of trainings through a link, as PNG files; drawn by matplotlib, the extra ``plot``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

from slstream.bench.paired_seeds import standard_error
from slstream.bench.shaped_run import ShapedRun
from slstream.errors import ConfigError, StorageError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

METRIC_OVER_TIME = "metric-over-time.png"
RATIO_AGAINST_METRIC = "ratio-against-metric.png"
BYTES_PER_STEP = "bytes-per-step.png"

_UNCOMPRESSED = "uncompressed"

Runs = Sequence[ShapedRun]


def require_matplotlib() -> None:
    """Tell before anything is measured that nothing could be drawn.

    Raises:
        ConfigError: matplotlib is not installed.
    """
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            "pictures need matplotlib, which is not installed: pip install 'slstream[plot]', or "
            "leave --plot out"
        ) from error


def write(directory: Path, metric: str, uncompressed: Runs, variants: Mapping[str, Runs]) -> None:
    """Draw the runs' metric over time, ratio against metric, and bytes of a step.

    Args:
        directory: gets three files; created when it is missing.
        metric: that is drawn.
        uncompressed: runs, by seed.
        variants: the compressed runs, by name, each by seed.

    Raises:
        ConfigError: matplotlib is not installed.
        StorageError: the folder cannot be written.
    """
    require_matplotlib()
    figures = {
        METRIC_OVER_TIME: _metric_over_time(metric, {_UNCOMPRESSED: uncompressed, **variants}),
        RATIO_AGAINST_METRIC: _ratio_against_metric(metric, uncompressed, variants),
        BYTES_PER_STEP: _bytes_per_step({_UNCOMPRESSED: uncompressed, **variants}),
    }
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for name, figure in figures.items():
            figure.savefig(directory / name, dpi=150)
    except OSError as error:
        raise StorageError(f"cannot write pictures to {directory}: {error}") from error


def _figure(title: str) -> Figure:
    # Not pyplot: it keeps figures, and looks for a screen.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), layout="constrained")
    figure.add_subplot(title=title)
    return figure


def _finish(axes: Axes, label: str) -> None:
    """Give an x axis of ratios plain numbers, and the picture its grid and legend."""
    from matplotlib.ticker import LogLocator, NullFormatter

    axes.set(xscale="log", xlabel=label)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.grid(visible=True, alpha=0.3)
    axes.legend()


def _metric_over_time(metric: str, named: Mapping[str, Runs]) -> Figure:
    figure = _figure("Metric over time")
    axes = figure.axes[0]
    for index, (name, runs) in enumerate(named.items()):
        for run in runs:
            axes.plot(
                [each.at_s for each in run.evaluations],
                [each.metrics[metric] for each in run.evaluations],
                marker=".",
                color=f"C{index}",
                label=name if run is runs[0] else None,
            )
    axes.set(ylabel=f"{metric} (validation)")
    _finish(axes, "seconds of training")
    return figure


def _ratio_against_metric(metric: str, uncompressed: Runs, variants: Mapping[str, Runs]) -> Figure:
    figure = _figure("Ratio against metric")
    axes = figure.axes[0]
    axes.axhline(0, color="grey", linewidth=1)
    for index, (name, runs) in enumerate(variants.items(), start=1):
        pairs = list(zip(runs, uncompressed, strict=True))
        ratio = fmean(raw.bytes_per_step / run.bytes_per_step for run, raw in pairs)
        deltas = [
            100 * (run.summary.metrics[metric] - raw.summary.metrics[metric]) for run, raw in pairs
        ]
        axes.errorbar(
            ratio,
            fmean(deltas),
            yerr=standard_error(deltas),
            marker="o",
            capsize=3,
            color=f"C{index}",
            label=name,
        )
    axes.set(ylabel=f"change of {metric} in points, with standard error")
    _finish(axes, "times fewer bytes than uncompressed")
    return figure


def _bytes_per_step(named: Mapping[str, Runs]) -> Figure:
    figure = _figure("Bytes of a step")
    axes = figure.axes[0]
    for shift, kind in ((-0.1, "activation"), (0.1, "gradient")):
        sizes = [
            fmean(
                sum(t.wire_bytes for t in run.summary.traffic if t.kind == kind) / run.summary.steps
                for run in runs
            )
            for runs in named.values()
        ]
        axes.plot(sizes, [row + shift for row in range(len(named))], "o", label=kind)
    axes.set_yticks(range(len(named)), labels=list(named))
    axes.set(ylim=(len(named) - 0.5, -0.5))
    _finish(axes, "bytes on the wire, everything counted")
    return figure
