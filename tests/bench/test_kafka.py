"""The benches over a real broker: beside a bare aiokafka, and leaving nothing behind."""

from __future__ import annotations

import pytest

from slstream.bench import step, transport
from slstream.transport.connect import open_transport
from tests.transport.logs import run

pytest_plugins = ["tests.kafka.fixtures"]


def topics_of_benches(url: str) -> list[str]:
    found: list[str] = []

    async def body() -> None:
        async with await open_transport(url, read_only=True) as log:
            found.extend(await log.topics("bench"))

    run(body())
    return found


def test_a_transport_over_kafka_is_compared_with_aiokafka(kafka: str) -> None:
    url = f"kafka://{kafka}"
    report = transport.run(url=url, duration_s=0.3)
    found = {result.name: result for result in report.results}
    assert {name: result.target for name, result in found.items()} == {
        "throughput_mb_per_s": None,
        "aiokafka_mb_per_s": None,
        "ratio_to_aiokafka": ">= 0.9",
        "longest_loop_stall_ms": "<= 50",
        "latency_p50_ms": None,
        "latency_p99_ms": None,
        "echo_4_kib_p50_ms": None,
        "echo_64_kib_p50_ms": None,
    }
    values = {name: result.value for name, result in found.items()}
    assert values["ratio_to_aiokafka"] == (
        values["throughput_mb_per_s"] / values["aiokafka_mb_per_s"]
    )
    assert 1 < values["aiokafka_mb_per_s"] < 100_000
    assert 0.01 < values["longest_loop_stall_ms"] < 5_000
    assert topics_of_benches(url) == []


@pytest.mark.long
def test_a_step_over_kafka_is_compared_with_an_echo_of_its_bytes(kafka: str) -> None:
    url = f"kafka://{kafka}"
    report = step.run(transport_url=url, steps=20)
    found = {result.name: result for result in report.results}
    echo_ms = found["raw_echo_ms"].value
    limit = min(step.KAFKA_OVERHEAD_MS, step.KAFKA_ECHOES * echo_ms)
    assert found["step_overhead_ms"].holds is (found["step_overhead_ms"].value <= limit)
    assert 0.1 < echo_ms < 5_000
    assert found["raw32_raw_echo_ms"].value > 0.1
    assert topics_of_benches(url) == []
