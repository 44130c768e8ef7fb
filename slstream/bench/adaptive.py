"""Does the adaptive choice find the best codec of a link, and does it follow when the link changes?

A generated table is trained on by two parties, the feature party at the far end of a link of
:mod:`slstream.bench.shaped_transport`; batches of 1,024 rows with a cut of 1,024 columns are 4 MiB
each way, so that links, codecs and processors matter in turn. On each link the adaptive choice is
compared with each pair of rungs of its own ladders, from the coarsest on, until they become slower.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import count, pairwise
from math import inf
from pathlib import Path
from statistics import median
from time import time

import numpy as np

from slstream.adaptive.ladder import LADDERS
from slstream.bench.report import Report, Result, at_least, at_most
from slstream.bench.shaped_link import Link
from slstream.bench.shaped_run import ShapedRun, train
from slstream.party.summary import Traffic
from slstream.topology import Topology

RATES = {"10mbit": 10e6, "50mbit": 50e6, "200mbit": 200e6, "1gbit": 1e9, "10gbit": 10e9}
"""The links, bits per second."""
RTT_S = 0.01
SHARE = 0.9
"""Of the best static codec's speed that the adaptive choice should reach."""
SETTLED_S = 5.0
"""After a change of the rate by a factor of 10."""

_LABEL_COLUMNS, _COLUMNS, _ROWS, _CUT, _BATCH = 4, 16, 12_288, 1024, 1024
_EPOCHS = 8
_TARGET_POINTS = 0.5
"""How far below the best AUC of all runs on a link the target is."""
_HOPELESS = 1.25
"""A rung that takes this many times the best one's time ends the search for a better one."""

_STEP_EPOCHS, _STEP_LR = 40, 0.0001
_STEP_AFTER_S = 15.0
"""When the rate changes, from the start of the processes on: they train by then."""
_OBSERVED_S = 5.0
"""How long a training must go on before the change, and after it once it may be settled."""
_STEPS = ((1e9, 100e6), (100e6, 1e9))
_numbers = count()


def run(*, seeds: int = 1, rates: Mapping[str, float] = RATES, steps: bool = True) -> Report:
    """Measure.

    Args:
        seeds: runs of each codec on each link; the median counts.
        rates: the links, by name.
        steps: whether to measure changes of a link, too.

    Raises:
        SlstreamError: a run failed.
    """
    results: list[Result] = []
    notes: list[str] = []
    with tempfile.TemporaryDirectory(prefix="slstream-bench-") as directory:
        _write_tables(Path(directory))
        for name, rate_bps in rates.items():
            link = Link(rate_bps=rate_bps, rtt_s=RTT_S)
            found, note = _compare(Path(directory), link, seeds)
            results += [replace(each, name=f"{name}/{each.name}") for each in found]
            notes.append(f"{name}: {note}")
        for before, after in _STEPS if steps else ():
            name = f"{before / 1e6:g}-to-{after / 1e6:g}mbit"
            found, note = _change(Path(directory), before, after)
            results += [replace(each, name=f"{name}/{each.name}") for each in found]
            notes.append(f"{name}: {note}")
    return Report(bench="adaptive", results=tuple(results), notes=tuple(notes))


def _compare(directory: Path, link: Link, seeds: int) -> tuple[list[Result], str]:
    """The adaptive choice and the static codecs on one link."""
    runs = {"adaptive": _runs(directory, "adaptive", link, seeds)}
    ladders = LADDERS[max(LADDERS)]
    for rung in reversed(range(len(ladders["forward"]))):
        codec = {direction: list(ladder[rung]) for direction, ladder in ladders.items()}
        name = str(codec["forward"][0]["id"])
        step = codec["forward"][0].get("step")
        name = name if step is None else f"{name} {step:g}"
        runs[name] = _runs(directory, codec, link, seeds)
        times = [_training_s(each) for key, each in runs.items() if key != "adaptive"]
        if times[-1] > _HOPELESS * min(times):
            break
    best_auc = min(run.best("auc") for each in runs.values() for run in each)
    target = best_auc - _TARGET_POINTS / 100
    seconds = {name: _time_to(each, target) for name, each in runs.items()}
    adaptive_s = seconds.pop("adaptive")
    best = min(seconds, key=seconds.__getitem__)
    share = seconds[best] / adaptive_s
    results = [
        at_least("share_of_the_best", share, "x", SHARE),
        Result(name="adaptive_s", value=adaptive_s, unit="s"),
        Result(name=f"best_s ({best})", value=seconds[best], unit="s"),
    ]
    listed = ", ".join(f"{name} {value:.2f} s" for name, value in seconds.items())
    taken = [f"{t.kind} {t.codec}" for t in _most_used(runs["adaptive"][0])]
    return results, f"to AUC {target:.4f}: {listed}; adaptive took {', '.join(taken)}"


def _change(directory: Path, before: float, after: float) -> tuple[list[Result], str]:
    """One run during which the rate of the link changes."""
    changes_at = time() + _STEP_AFTER_S
    link = Link(rate_bps=before, rtt_s=RTT_S, later_rate_bps=after, later_at=changes_at)
    found = _train(directory, "adaptive", link, seed=0, epochs=_STEP_EPOCHS, lr=_STEP_LR)
    later = [each for each in found.choices if each.at > changes_at]
    settled_s = max((each.at - changes_at for each in later), default=0.0)
    before_s = changes_at - min(each.at for each in found.choices)
    seen_s = found.ended_at - changes_at
    alone = _train(
        directory,
        "adaptive",
        Link(rate_bps=after, rtt_s=RTT_S),
        seed=0,
        epochs=_EPOCHS,
        lr=_STEP_LR,
    )
    share = _epoch_s(alone) / _epoch_s(found, begun_after=changes_at + SETTLED_S)
    most = max((sum(c.sender == each.sender for c in later) for each in later), default=0)
    said = "; ".join(f"{c.at - changes_at:+.1f} s {c.sender}: {c.reason}" for c in found.choices)
    return [
        at_least("share_of_one_that_began_so", share, "x", SHARE),
        at_most("settled_s", settled_s, "s", SETTLED_S),
        at_most("most_changes_of_a_sender", most, "changes", 2),
        at_least("observed_s", min(before_s, seen_s - SETTLED_S), "s", _OBSERVED_S),
    ], said


def _epoch_s(run: ShapedRun, *, begun_after: float = -inf) -> float:
    """Median seconds of an epoch, of those that began after a Unix time."""
    ends = [run.ended_at - run.training_s + each.at_s for each in run.evaluations]
    times = [end - begin for begin, end in pairwise(ends) if begin >= begun_after]
    return median(times) if times else inf


def _runs(directory: Path, codec: object, link: Link, seeds: int) -> list[ShapedRun]:
    return [_train(directory, codec, link, seed=seed, epochs=_EPOCHS) for seed in range(seeds)]


def _train(
    directory: Path, codec: object, link: Link, *, seed: int, epochs: int, lr: float = 0.001
) -> ShapedRun:
    topology = _topology(directory, codec, seed=seed, epochs=epochs, lr=lr)
    return train(topology, link, directory=directory / topology.federation)


def _training_s(runs: Sequence[ShapedRun]) -> float:
    return median(run.training_s for run in runs)


def _time_to(runs: Sequence[ShapedRun], target: float) -> float:
    """Seconds to the target, as if epochs could end at any step.

    All runs of a seed learn alike but for rounding, so which epoch comes out above the target may
    be chance. Within the epoch the metric is taken to grow evenly.
    """
    return median(_interpolated(run, target) for run in runs)


def _interpolated(run: ShapedRun, target: float) -> float:
    before_s, before = 0.0, 0.5
    for each in run.evaluations:
        now = each.metrics["auc"]
        if now >= target:
            part = (target - before) / (now - before)
            return before_s + min(1.0, max(0.0, part)) * (each.at_s - before_s)
        before_s, before = each.at_s, now
    return run.training_s


def _most_used(run: ShapedRun) -> list[Traffic]:
    """Of activations and of gradients, the codec of most frames."""
    kinds = ("activation", "gradient")
    traffic = [each for each in run.summary.traffic if each.kind in kinds]
    return [max((t for t in traffic if t.kind == k), key=lambda t: t.frames) for k in kinds]


def _topology(directory: Path, codec: object, *, seed: int, epochs: int, lr: float) -> Topology:
    base = {"model": "mlp", "args": {"hidden": [64], "out": _CUT, "out_activation": "relu"}}
    return Topology.from_dict(
        {
            "federation": f"bench-adaptive-{os.getpid()}-{next(_numbers)}",
            "seed": seed,
            "parties": {
                "alice": {
                    "role": "label",
                    "data": {"path": "alice.csv", "label": "y"},
                    "base": {"model": "mlp", "args": {"out": 32, "out_activation": "relu"}},
                },
                "bob": {"role": "feature", "data": {"path": "bob.csv"}, "base": base},
            },
            "fuse": {"model": "mlp", "args": {"hidden": [32], "out": 1}},
            "loss": "bce",
            "optimizer": {"name": "adam", "lr": lr},
            "training": {"batch_size": _BATCH, "epochs": epochs, "validation": 0.2},
            "codec": codec,
        },
        root=directory,
    )


def _write_tables(directory: Path) -> None:
    noise = np.random.default_rng(0)
    features = noise.normal(size=(_ROWS, _COLUMNS))
    weights = noise.normal(size=(_COLUMNS, 8))
    score = np.tanh(features @ weights / 2).sum(axis=1)
    labels = (score + noise.normal(size=_ROWS) > 0).astype(int)
    for name, columns in (("alice", slice(_LABEL_COLUMNS)), ("bob", slice(_LABEL_COLUMNS, None))):
        part = features[:, columns]
        header = ["id", *(f"x{column}" for column in range(part.shape[1]))]
        lines = [",".join([*header, "y"] if name == "alice" else header)]
        for row, values in enumerate(part):
            cells = [str(row), *(f"{value:.5f}" for value in values)]
            lines.append(",".join([*cells, str(labels[row])] if name == "alice" else cells))
        (directory / f"{name}.csv").write_text("\n".join(lines) + "\n")
