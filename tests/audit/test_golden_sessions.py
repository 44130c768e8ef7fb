"""Sessions that were recorded once are verified and replayed for ever."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from slstream import Topology
from slstream.archive.transport import ArchiveTransport
from slstream.archive.verification import verify
from slstream.audit.replay import EnvironmentDiffers, ReplayReport, ReplayRequest, replay
from tests.audit.golden_session import GOLDEN

FOLDERS = sorted(path.name for path in GOLDEN.iterdir())

BOUND = 0.3
"""On another machine a rounded element may fall to the other side; it is one of 48."""


def replayed(folder: Path, party: str, bound: float | None) -> ReplayReport:
    topology = Topology.load(folder / "topology.yaml")
    request = ReplayRequest(session="latest", party=party, bound=bound)

    async def main() -> ReplayReport:
        async with await ArchiveTransport.open(folder / "session.mcap") as archive:
            return (await replay(request, topology, archive, directory=None)).report

    return asyncio.run(main())


@pytest.mark.parametrize("name", FOLDERS)
@pytest.mark.parametrize("party", ["alice", "bob"])
def test_a_golden_session_replays(name: str, party: str) -> None:
    folder = GOLDEN / name
    verify(folder / "session.mcap")
    try:
        report = replayed(folder, party, None)
        weights = json.loads((folder / "weights.json").read_text())
        assert report.weights == weights[party]
        assert report.equal_frames == report.frames
    except EnvironmentDiffers:
        report = replayed(folder, party, BOUND)
        assert report.holds
        assert report.environment_differences
    assert report.complete


def test_there_is_one() -> None:
    assert "format-1" in FOLDERS
