from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from slstream.bench.report import Report, at_most
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
