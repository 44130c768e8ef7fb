"""Choices that depend on time are made once: what the log holds is taken from the log."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any

import pytest

from slstream.adaptive.controller import Choice, Controller
from slstream.audit.replay import ReplayReport, ReplayRequest, replay
from slstream.codecs.contract import FloatArray
from slstream.frames.header import FrameKind
from slstream.transport.connect import embedded_url, open_transport
from tests.party.small_session import summary_of
from tests.party.test_driver_recovery import EVERY_STEP, PARTIES, TRAINING, Sessions

WITHOUT_PLAN = random.SystemRandom()


def choose_at_random(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have each frame take another codec, which nothing but the log can tell."""

    def choose(controller: Controller, tensor: FloatArray) -> Choice:
        del tensor
        rung = WITHOUT_PLAN.randrange(len(controller._chains))
        return Choice(rung=rung, reason=f"a die fell on {rung}")

    monkeypatch.setattr(Controller, "choose", choose)


def replayed(sessions: Sessions, party: str) -> ReplayReport:
    async def main() -> ReplayReport:
        url = embedded_url(sessions.directory / "log")
        async with await open_transport(url, read_only=True) as log:
            request = ReplayRequest(session="latest", party=party)
            return (await replay(request, sessions.topology, log, directory=None)).report

    return asyncio.run(main())


@pytest.mark.parametrize(
    ("schedule", "training"),
    [
        pytest.param("sync", {}, marks=pytest.mark.long),
        pytest.param("microbatch", {"micro_batch_size": 9, "epochs": 1}, marks=pytest.mark.long),
        ({"name": "pipeline", "pipeline_size": 3}, {"batch_size": 9, "epochs": 1}),
    ],
    ids=["sync", "microbatch", "pipeline"],
)
def test_a_session_that_is_cut_after_every_action_keeps_its_choices(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, schedule: object, training: dict[str, Any]
) -> None:
    choose_at_random(monkeypatch)
    sessions = Sessions(
        tmp_path,
        monkeypatch,
        checkpoints=EVERY_STEP,
        codec="adaptive",
        schedule=schedule,
        training={**TRAINING, **training},
    )
    _, actions = sessions.undisturbed()
    outcomes = sessions.run(actions)
    result = sessions.result(outcomes)
    for name in PARTIES:
        assert sessions.divergences(name) == []
        report = replayed(sessions, name)
        assert report.complete
        assert report.equal_frames == report.frames
        assert report.weights == result.weights[name]
    chosen = {"alice": 0, "bob": 0, "carol": 0}
    different = 0
    for link, frames in result.frames.items():
        kinds = (FrameKind.ACTIVATION, FrameKind.GRADIENT)
        ids = [frame[4] for frame in frames if frame[1] in kinds]
        chosen[link.split("-")[0]] += len(ids)
        different += len(set(ids)) > 1
    assert different > 1, "the die fell on several"
    for name in PARTIES:
        assert len(summary_of(outcomes[name]).choices) == chosen[name], "none was forgotten"


def test_what_was_chosen_is_told_and_stands_in_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sessions = Sessions(tmp_path, monkeypatch, codec="adaptive")
    outcomes = sessions.run()
    session = summary_of(outcomes["alice"]).session
    choices = [choice for name in PARTIES for choice in summary_of(outcomes[name]).choices]
    first = {(c.sender, c.receiver, c.kind) for c in choices if (c.epoch, c.step) == (1, 1)}
    assert first == {
        ("bob", "alice", "activation"),
        ("carol", "alice", "activation"),
        ("alice", "bob", "gradient"),
        ("alice", "carol", "gradient"),
    }

    async def reasons() -> list[str]:
        found = []
        async with await open_transport(embedded_url(sessions.directory / "log")) as log:
            for topic in await log.topics("small."):
                if session in topic:
                    for record in await log.read(topic, 0):
                        found += [v.decode() for name, v in record.headers if name == "choice"]
        return found

    assert sorted(asyncio.run(reasons())) == sorted(choice.reason for choice in choices)
