from __future__ import annotations

import asyncio
import json
import threading
from pathlib import Path

import pytest

from slstream.errors import ConfigError, SlstreamError
from slstream.frames.topics import divergences_topic
from slstream.soak import trial
from slstream.soak.trial import beside, run
from slstream.topology import Topology
from tests.audit.small_log import SmallLog, open_log
from tests.soak.results import trace, trial_of
from tests.topology.documents import write


def test_work_goes_on_beside_the_block_and_ends_with_it() -> None:
    seen: list[str] = []
    begun = threading.Event()

    async def work() -> None:
        begun.set()
        try:
            await asyncio.sleep(60)
        finally:
            seen.append("ended")

    with beside(work):
        assert begun.wait(10)
        assert seen == []
    assert seen == ["ended"]


def test_work_that_is_done_before_the_block_is_no_error() -> None:
    done = threading.Event()

    async def work() -> None:
        done.set()

    with beside(work):
        assert done.wait(10)


def test_what_the_work_raised_is_raised_at_the_end() -> None:
    async def work() -> None:
        raise SlstreamError("no successor")

    with pytest.raises(SlstreamError, match="no successor"), beside(work):
        pass


def test_the_error_of_the_block_says_more() -> None:
    async def work() -> None:
        raise SlstreamError("the log is gone")

    with pytest.raises(SlstreamError, match="alice failed"), beside(work):
        raise SlstreamError("alice failed")


@pytest.mark.parametrize("name", [trial.UNDISTURBED, trial.DISTURBED])
def test_runs_of_an_earlier_test_are_not_taken(name: str, tmp_path: Path) -> None:
    (tmp_path / name).mkdir()
    topology = Topology.load(write(tmp_path))
    with pytest.raises(ConfigError, match=rf"expected no folder .*{name}, found one"):
        run(topology, kills=1, seed=1, directory=tmp_path)


def test_parties_that_learned_other_bits_are_named() -> None:
    assert trial_of().weights_differing == ()
    other = trace(weights={"alice": "a" * 64, "bob": "c" * 64})
    assert trial_of(disturbed=other).weights_differing == ("bob",)
    assert trial_of(disturbed=trace(weights={"alice": "a" * 64})).weights_differing == ("bob",)


def test_metrics_are_compared_to_the_bit() -> None:
    assert not trial_of().metrics_differ
    assert trial_of(disturbed=trace(history=({"auc": 0.9000000001},))).metrics_differ


def test_divergences_are_those_of_the_session_and_those_that_name_none(tmp_path: Path) -> None:
    values = [json.dumps({"session": name}).encode() for name in ("ours", "other", "ours")]

    async def main() -> int:
        topology = Topology.load(write(tmp_path))
        async with await open_log(tmp_path / "log") as log:
            assert await trial._divergences(log, topology, "ours") == 0
            topic = divergences_topic("clinic", "bob")
            await SmallLog(log, "clinic").append(topic, [*values, b"\xff", b"[]"])
            return await trial._divergences(log, topology, "ours")

    assert asyncio.run(main()) == 4
