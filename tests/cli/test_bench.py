from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from slstream.bench.report import Report, at_most
from slstream.bench.shaped_link import Link
from slstream.cli.bench import _prints_report
from slstream.cli.bench import command as bench_group
from slstream.topology import Topology
from slstream.transport.contract import Durability
from tests.source_tree import ROOT


def bench(value: float) -> click.Command:
    @click.command()
    @click.option("--steps", type=int, default=3)
    @_prints_report
    def command(steps: int) -> Report:
        """Measure."""
        result = at_most("step_overhead_ms", value, "ms", 5)
        return Report(bench="step", results=(result,), notes=(f"{steps} steps",), environment={})

    return command


@pytest.mark.parametrize(
    ("value", "arguments", "code"),
    [(9.0, [], 0), (9.0, ["--check"], 1), (4.0, ["--check"], 0), (9.0, ["--check", "--json"], 1)],
)
def test_a_missed_target_fails_only_when_asked(
    value: float, arguments: list[str], code: int
) -> None:
    assert CliRunner().invoke(bench(value), arguments).exit_code == code


def test_json_is_one_object_alone() -> None:
    result = CliRunner().invoke(bench(4.0), ["--json", "--steps", "7"])
    document = json.loads(result.stdout)
    assert document["bench"] == "step"
    assert document["environment"]["notes"] == ["7 steps"]
    assert document["results"][0] == {
        "name": "step_overhead_ms",
        "value": 4.0,
        "unit": "ms",
        "target": "<= 5",
        "holds": True,
    }


def test_table() -> None:
    output = CliRunner().invoke(bench(9.0)).stdout
    assert "bench step" in output
    assert "no" in output.split()


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        (["step"], {"transport_url": None, "steps": 200}),
        (
            ["step", "--steps", "50", "--transport", "embedded:///x"],
            {"transport_url": "embedded:///x", "steps": 50},
        ),
        (["codecs"], {}),
        (["recovery"], {"steps": 1500}),
        (["recovery", "--steps", "300"], {"steps": 300}),
        (["transport"], {"url": None, "durability": Durability.CHECKPOINT}),
        (
            ["transport", "--transport", "embedded:///x", "--durability", "step"],
            {"url": "embedded:///x", "durability": Durability.STEP},
        ),
    ],
)
def test_options_reach_the_bench(
    arguments: list[str], options: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[dict[str, object]] = []

    def run(**given: object) -> Report:
        seen.append(given)
        return Report(bench=arguments[0], results=(), environment={})

    monkeypatch.setattr(import_module(f"slstream.bench.{arguments[0]}"), "run", run)
    result = CliRunner().invoke(bench_group, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert seen == [options]


def test_accuracy_gets_the_topology_as_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[Path | None, int, int]] = []

    def run(topology: Topology, *, seeds: int) -> Report:
        seen.append((topology.path, topology.seed, seeds))
        return Report(bench="accuracy", results=(), environment={})

    monkeypatch.setattr("slstream.bench.accuracy.run", run)
    path = ROOT / "topology" / "breast-cancer.yaml"
    arguments = ["accuracy", str(path), "--seeds", "7", "--set", "seed=40"]
    result = CliRunner().invoke(bench_group, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert seen == [(path, 40, 7)]


def test_train_gets_the_link_and_the_choices(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[dict[str, object]] = []

    def run(topology: Topology, **given: object) -> Report:
        seen.append({"seed": topology.seed, **given})
        return Report(bench="train", results=(), environment={})

    monkeypatch.setattr("slstream.bench.train.run", run)
    arguments = ["train", str(ROOT / "topology" / "breast-cancer.yaml"), "--set", "seed=40"]
    quick = [*arguments, "--link", "1.5gbit"]
    full = [*arguments, "--link", "100mbit", "--rtt", "50ms", "--jitter", "5ms", "--cut-every"]
    full += ["30s", "--cut-for", "1s", "--codec", "fp16", "--codec", "q8row", "--schedule", "sync"]
    full += ["--target", "0.9", "--seeds", "1", "--transport", "embedded:///x", "--plot", "p"]
    for each in (quick, full):
        result = CliRunner().invoke(bench_group, each, catch_exceptions=False)
        assert result.exit_code == 0, result.output
    assert seen == [
        {
            "seed": 40,
            "link": Link(rate_bps=1.5e9),
            "codecs": (),
            "schedule": None,
            "target": None,
            "seeds": 3,
            "transport_url": None,
            "plot": None,
        },
        {
            "seed": 40,
            "link": Link(
                rate_bps=100e6, rtt_s=0.05, jitter_s=0.005, cut_every_s=30.0, cut_for_s=1.0
            ),
            "codecs": ("fp16", "q8row"),
            "schedule": "sync",
            "target": 0.9,
            "seeds": 1,
            "transport_url": "embedded:///x",
            "plot": Path("p"),
        },
    ]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "Missing option '--link'"),
        (["--link", "fast"], "expected a rate above 0 such as 100mbit"),
        (["--link", "1mbit", "--rtt", "50"], "expected a duration such as 50ms"),
    ],
)
def test_a_link_that_is_not_understood_is_an_error_of_use(arguments: list[str], said: str) -> None:
    result = CliRunner().invoke(bench_group, ["train", "any.yaml", *arguments])
    assert result.exit_code == 2
    assert said in " ".join(result.output.replace("\u2502", " ").split())
