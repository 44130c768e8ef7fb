"""The step bench measures a real session between two processes."""

from __future__ import annotations

import pytest

from slstream.bench import step


@pytest.mark.long
def test_the_report_has_the_overhead_and_its_parts() -> None:
    report = step.run(steps=20)
    values = {result.name: result.value for result in report.results}
    assert values["step_ms"] > 0
    assert min(values["one_process_step_ms"], values["one_process_rested_step_ms"]) > 0
    assert values["step_overhead_ms"] == values["step_ms"] - values["one_process_step_ms"]
    for party in ("label", "feature"):
        for part in ("compute", "codec", "transport", "waiting"):
            assert values[f"{party}_{part}_ms"] > 0
    (overhead,) = (r for r in report.results if r.name == "step_overhead_ms")
    assert overhead.holds is (overhead.value <= step.OVERHEAD_MS)
    raw_frame = 4 * step.BATCH * step.CUT
    sizes = [int(note.split(", ")[1].split()[0]) for note in report.notes[1:]]
    assert len(sizes) == 2
    assert all(size < raw_frame / 10 for size in sizes)
