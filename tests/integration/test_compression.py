"""What the default codecs promise, on real data: bytes and metric, over paired seeds."""

from __future__ import annotations

from pathlib import Path

import pytest

from slstream.bench import accuracy
from slstream.topology import Topology

FOLDER = Path(__file__).parents[2] / "topology"


@pytest.mark.long
@pytest.mark.timeout(3000)
@pytest.mark.parametrize(("name", "seeds"), [("breast-cancer", 8), ("credit", 6), ("digits", 10)])
def test_default_codecs_keep_their_promise(name: str, seeds: int) -> None:
    topology = Topology.load(FOLDER / f"{name}.yaml")
    for party in topology.parties:
        path = topology.data_path(party)
        if path is not None and not path.exists():
            pytest.skip(f"{party.id}'s table is not at hand: {path}")
    report = accuracy.run(topology, seeds=seeds)
    targets = [result for result in report.results if result.target is not None]
    assert {result.name for result in targets} == {"wire_ratio", "metric_delta_points"}
    missed = [result for result in targets if not result.holds]
    assert not missed, report
