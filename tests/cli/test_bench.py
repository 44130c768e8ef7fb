from __future__ import annotations

import json

import click
import pytest
from click.testing import CliRunner

from slstream.bench.report import Report, at_most
from slstream.cli.bench import _prints_report


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
    assert document["notes"] == ["7 steps"]
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
