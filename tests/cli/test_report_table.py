from __future__ import annotations

import pytest

from slstream.bench.report import Report, Result, at_least, at_most
from slstream.cli.report_table import report_table
from tests.cli.examples import assert_fits, rendered, words


def report(*results: Result, notes: tuple[str, ...] = ()) -> Report:
    return Report(bench="step", results=results, notes=notes, environment={"cpus": "2"})


def test_single_numbers_are_a_list() -> None:
    text = rendered(
        report_table(
            report(
                at_most("step_overhead_ms", 5.25, "ms", 5),
                at_least("wire_ratio", 22.6, "x", 20),
                Result(name="parts/none", value=1.0, unit="ms"),
                Result(name="forward_ms", value=0.5, unit="ms"),
                notes=("the credit data is not present",),
            )
        )
    )
    lines = words(text)
    assert "step_overhead_ms 5.25 ms <= 5 no" in lines
    assert "wire_ratio 22.6 x >= 20 yes" in lines
    assert "forward_ms 0.5 ms" in lines
    assert "note: the credit data is not present" in lines
    assert "cpus 2" in lines


@pytest.mark.parametrize("width", [80, 100])
def test_families_are_a_grid(width: int) -> None:
    results = [
        result
        for codec in ("row_int8", "ecsq+zstd")
        for result in (
            at_least(f"{codec}/encode_gb_per_s", 4.5, "GB/s", 4),
            at_least(f"{codec}/decode_gb_per_s", 3.5, "GB/s", 4),
            Result(name=f"{codec}/bits_per_element", value=8.0, unit="bit"),
            Result(name=f"{codec}/snr_db", value=33.25, unit="dB"),
        )
    ]
    del results[-1]
    text = rendered(report_table(report(*results)), width)
    assert_fits(text, width)
    lines = words(text)
    assert "encode decode bits per element snr" in lines
    assert "GB/s GB/s bit dB" in lines
    assert "row_int8 4.5 >= 4 yes 3.5 >= 4 no 8 33.25" in lines
    assert "ecsq+zstd 4.5 >= 4 yes 3.5 >= 4 no 8" in lines


@pytest.mark.parametrize("width", [80, 100])
def test_families_of_many_numbers_are_a_list_each(width: int) -> None:
    """As those of `bench train` with several codecs."""
    numbers = {
        "time_to_target_s": "s",
        "training_s": "s",
        "wire_ratio": "x",
        "metric_delta_points": "points",
        "metric_delta_standard_error": "points",
        "steps_per_s": "steps/s",
        "wire_bytes": "bytes",
    }
    codecs = ("fp16", "{forward: [topk, {id: ecsq, step: 0.25}, zstd], backward: q8row}", "ecsq")
    results = [
        Result(name=f"{codec}/{number}", value=1234567.25 + index, unit=unit)
        for index, codec in enumerate(codecs)
        for number, unit in numbers.items()
    ]
    results[0] = at_least("fp16/time_to_target_s", 12.5, "s", 12)
    text = rendered(report_table(report(*results, at_most("training_s", 5, "s", 6))), width)
    assert_fits(text, width)
    lines = words(text)
    assert "time_to_target_s 12.5 s >= 12 yes" in lines
    assert "training_s 5 s <= 6 yes" in lines
    for number, unit in numbers.items():
        shown = [line for line in lines if line.startswith(number)]
        assert len(shown) == 3 + (number == "training_s"), "each whole"
        assert all(unit in line for line in shown)
    headings = [line.split()[0] for line in lines if line.endswith("value unit target holds")]
    assert [heading[:4] for heading in headings] == ["fp16", "{for", "ecsq", "resu"]
