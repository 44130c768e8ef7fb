from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slstream.soak.kill_plan import LAST_PLACE, Kill, KillKind, TrainingPart, plan_kills

UP = TrainingPart(sender="bob", receiver="alice", start=3, end=803)
BACK = TrainingPart(sender="alice", receiver="bob", start=2, end=802)
PARTIES = ("alice", "bob")


def plan(
    kills: int,
    seed: int = 1,
    checkpoint_every: float = 0.1,
    parts: tuple[TrainingPart, ...] = (UP,),
) -> tuple[Kill, ...]:
    return plan_kills(parts, PARTIES, kills=kills, seed=seed, checkpoint_every=checkpoint_every)


def test_a_seed_is_a_plan() -> None:
    assert plan(20) == plan(20)
    assert plan(20, seed=2) != plan(20)


def test_kills_are_spread_over_the_training() -> None:
    for seed in range(20):
        frames = [kill.frames for kill in plan(8, seed)]
        assert frames == sorted(frames)
        for number, place in enumerate(frames):
            low, high = (3 + LAST_PLACE * 800 * n / 8 for n in (number, number + 1))
            assert low <= place <= high + 1


def test_every_link_party_and_kind_has_its_share() -> None:
    kills = plan(2000, parts=(UP, BACK))
    kinds = Counter(kill.kind for kill in kills)
    assert 300 < kinds[KillKind.ALL] < 500
    assert 300 < kinds[KillKind.CHECKPOINT] < 500
    for name in PARTIES:
        assert 800 < sum(kill.party == name for kill in kills) < 1200
        assert 800 < sum(kill.sender == name for kill in kills) < 1200


def test_patience_for_a_checkpoint_is_an_interval_and_a_half() -> None:
    for kill in plan(30, checkpoint_every=0.1):
        if kill.latest < 3 + LAST_PLACE * 799:
            assert kill.latest - kill.frames == pytest.approx(120, abs=1)


@given(
    st.integers(0, 50),
    st.integers(1, 300),
    st.integers(1, 40),
    st.integers(0, 2**64 - 1),
    st.floats(0.001, 1),
)
def test_places_are_within_the_training(
    start: int, length: int, kills: int, seed: int, every: float
) -> None:
    part = TrainingPart(sender="a", receiver="b", start=start, end=start + length)
    for kill in plan_kills([part], ["a"], kills=kills, seed=seed, checkpoint_every=every):
        assert start < kill.frames <= kill.latest <= start + max(1, LAST_PLACE * length + 1)


@pytest.mark.parametrize(
    ("parts", "parties"),
    [
        ([], ["a"]),
        ([UP], []),
        ([UP, TrainingPart(sender="a", receiver="b", start=4, end=4)], ["a"]),
    ],
)
def test_refuses_what_has_no_training(parts: list[TrainingPart], parties: list[str]) -> None:
    with pytest.raises(ValueError, match="expected links with training steps"):
        plan_kills(parts, parties, kills=1, seed=0, checkpoint_every=0.1)
