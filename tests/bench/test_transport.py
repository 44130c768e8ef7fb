from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from slstream.bench import transport
from slstream.bench.report import Report
from slstream.transport.connect import embedded_url, open_transport
from slstream.transport.contract import Durability
from tests.transport.logs import run


@pytest.fixture(scope="module")
def report() -> Report:
    return transport.run(duration_s=0.3)


def test_the_results_have_their_fixed_names_and_targets(report: Report) -> None:
    assert report.bench == "transport"
    assert {result.name: (result.unit, result.target) for result in report.results} == {
        "throughput_mb_per_s": ("MB/s", ">= 250"),
        "raw_file_mb_per_s": ("MB/s", None),
        "latency_p50_ms": ("ms", "<= 1"),
        "latency_p99_ms": ("ms", "<= 10"),
        "echo_4_kib_p50_ms": ("ms", None),
        "echo_64_kib_p50_ms": ("ms", None),
    }


def test_the_numbers_are_of_this_world(report: Report) -> None:
    values = {result.name: result.value for result in report.results}
    assert 1 < values["throughput_mb_per_s"] < 100_000
    assert 1 < values["raw_file_mb_per_s"] < 100_000
    assert 0.01 < values["latency_p50_ms"] <= values["latency_p99_ms"] < 5_000
    assert 0.02 < values["echo_4_kib_p50_ms"] < 5_000


def test_a_given_log_is_used_and_left_clean(tmp_path: Path) -> None:
    url = embedded_url(tmp_path / "log")
    report = transport.run(url=url, durability=Durability.STEP, duration_s=0.1)
    assert "durability step" in report.notes[0]

    async def body() -> None:
        async with await open_transport(url, read_only=True) as log:
            assert await log.topics() == []

    run(body())


def test_the_other_process_is_a_process_of_its_own() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "slstream.bench.transport", "receive", "nonsense", "step", "a", "b"],
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode != 0
    assert "expected a URL" in done.stderr
