"""Both roles driven against each other, without I/O."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slstream.errors import (
    LocalProtocolError,
    RemoteProtocolError,
    SessionAborted,
    SessionRefused,
)
from slstream.frames.header import FrameKind
from slstream.protocol.actions import (
    Action,
    Backward,
    BaseSteps,
    Begin,
    Cursor,
    EpochEnd,
    Fuse,
    FuseSteps,
    Hear,
    Receive,
    Recompute,
    Update,
)
from slstream.protocol.early_stop import EarlyStop
from slstream.protocol.feature import feature_session
from slstream.protocol.label import label_session
from slstream.protocol.messages import Abort, Refuse, Verdict, encode_message
from slstream.protocol.schedule import Order, Schedule
from slstream.protocol.session import Outcome, Plan
from tests.protocol.loopback import LABEL, ROWS, Loopback, control

BATCH = 40  # of 96 rows: two full ones, and one of 16 rows
SCHEDULES = [
    Schedule(),
    Schedule(batch_size=BATCH, micro_batch_size=12),
    Schedule(order=Order.MICROBATCH, batch_size=BATCH, micro_batch_size=12),
    Schedule(order=Order.PIPELINE, pipeline_size=2),
    Schedule(order=Order.PIPELINE, pipeline_size=64),
    Schedule(order=Order.LOCAL, base_steps=3, fuse_steps=2, exchange_every=2),
]


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: f"{s.order}-{s.pipeline_size}")
@pytest.mark.parametrize("peers", [1, 2, 3])
def test_a_session_ends_alike_for_all(peers: int, schedule: Schedule) -> None:
    loopback = Loopback(peers, Plan(epochs=2, schedule=schedule))
    outcomes = loopback.run()
    assert set(outcomes) == set(loopback.parties)
    first = outcomes[LABEL]
    assert first.epochs == 2
    assert first.steps == 2 * ROWS.steps
    assert first.stopped_early is None
    assert first.history == ({"auc": 0.01}, {"auc": 0.02})
    assert set(first.weights) == set(loopback.parties)
    assert all(outcome == first for outcome in outcomes.values())


@given(seed=st.integers(0, 2**32), peers=st.integers(1, 3), schedule=st.sampled_from(SCHEDULES))
def test_timing_changes_nothing(seed: int, peers: int, schedule: Schedule) -> None:
    plan = Plan(epochs=2, schedule=schedule)
    undisturbed, shuffled = Loopback(peers, plan), Loopback(peers, plan)
    expected = undisturbed.run()
    assert shuffled.run(order=random.Random(seed).choice) == expected

    def per_link(loopback: Loopback) -> dict[tuple[str, str], list[object]]:
        links: dict[tuple[str, str], list[object]] = {}
        for sender, receiver, arrival in loopback.log:
            links.setdefault((sender, receiver), []).append(arrival)
        return links

    assert per_link(shuffled) == per_link(undisturbed)


def test_each_gradient_is_applied_once_and_in_order() -> None:
    loopback = Loopback(2, Plan(epochs=2))
    loopback.run()
    expected = [(epoch, step) for epoch in (1, 2) for step in range(1, ROWS.steps + 1)]
    for party in loopback.parties.values():
        done = [(a.epoch, a.step) for a in party.done if isinstance(a, Backward | Update)]
        assert done == expected


def test_activations_are_joined_in_party_order() -> None:
    loopback = Loopback(3, Plan(epochs=1))
    loopback.run(order=max)
    fuses = [a for a in loopback.parties[LABEL].done if isinstance(a, Fuse)]
    assert all(list(fuse.activations) == ["peer-0", "peer-1", "peer-2"] for fuse in fuses)


def test_early_stop_ends_all_parties_with_the_reason() -> None:
    plan = Plan(epochs=9, early_stop=EarlyStop(metric="auc", patience=2))
    loopback = Loopback(2, plan)
    loopback.parties[LABEL].metrics = lambda epoch: {"auc": 0.9 if epoch == 1 else 0.8}
    outcomes = loopback.run()
    assert {o.epochs for o in outcomes.values()} == {3}
    assert {o.stopped_early for o in outcomes.values()} == {
        "auc has not improved on 0.9000 of epoch 1 for 2 epochs"
    }
    ends = [a.epoch for a in loopback.parties["peer-0"].done if isinstance(a, EpochEnd)]
    assert ends == [1, 2, 3]


def test_a_contradicting_opening_is_refused_by_name() -> None:
    loopback = Loopback(1, Plan(epochs=1))
    loopback.parties["peer-0"].rows = type(ROWS)(
        alignment="b" * 64, train_rows=96, validation_rows=24, steps=3, evaluation_steps=2
    )
    with pytest.raises(RemoteProtocolError, match="alice's opening says alignment = aaaa"):
        loopback.run()


def until(action_type: type[Action], peers: int = 1) -> tuple[Loopback, Action]:
    """Run until peer-0 waits with an action of this type and nothing has come."""
    loopback = Loopback(peers, Plan(epochs=2))
    party = loopback.parties["peer-0"]
    sent: list[Action] = []

    class Reached(Exception):
        pass

    original = loopback.perform

    def perform(name: str, action: Action) -> object:
        if name == "peer-0" and isinstance(action, action_type):
            sent.append(action)
            raise Reached
        return original(name, action)

    loopback.perform = perform  # type: ignore[method-assign]
    with pytest.raises(Reached):
        loopback.run()
    assert party.outcome is None
    return loopback, sent[0]


@pytest.mark.parametrize(
    ("message", "error", "text"),
    [
        (Abort(reason="disk full"), SessionAborted, "alice gave up: disk full"),
        (Refuse(reason="other topology"), SessionRefused, "alice refused to take part: other"),
    ],
)
def test_a_last_word_is_heard_in_every_waiting_state(
    message: Abort | Refuse, error: type[Exception], text: str
) -> None:
    for kind in (Receive, Hear):
        _, action = until(kind)
        assert isinstance(action, Receive | Hear)
        with pytest.raises(error, match=text):
            action.accept(control(encode_message(message)))


def test_a_verdict_on_another_epoch_is_refused() -> None:
    session = feature_session(LABEL, Plan(epochs=2))
    loopback = Loopback(1, Plan(epochs=2))
    party = loopback.parties["peer-0"]
    party.session = session
    wrong = Verdict(epoch=2, metrics={}, proceed=True, reason="")
    original = loopback.perform

    def perform(name: str, action: Action) -> object:
        result = original(name, action)
        return wrong if isinstance(result, Verdict) else result

    loopback.perform = perform  # type: ignore[method-assign]
    with pytest.raises(
        RemoteProtocolError,
        match=r"verdict is on epoch 2 \(proceed=True\); expected one on epoch 1",
    ):
        loopback.run()


def test_a_party_that_returns_the_wrong_result_is_told() -> None:
    session = feature_session(LABEL, Plan(epochs=1))
    next(session)
    with pytest.raises(LocalProtocolError, match="returned int; expected Prepared"):
        session.send(3)


def test_waiting_says_what_for() -> None:
    gradient = Receive(peer="alice", kind=FrameKind.GRADIENT, epoch=3, step=17)
    assert str(gradient) == "alice's gradient of epoch 3, step 17"
    assert str(Hear(peer="bob", types=(Verdict,))) == "bob's message 'verdict'"


Trace = list[tuple[Action, object]]
"""What a session asked for, and what it was sent."""


def traces(loopback: Loopback) -> dict[str, Trace]:
    """Run to the end; what crossed the border of each party's session."""
    found: dict[str, Trace] = {name: [] for name in loopback.parties}
    original = loopback.perform

    def perform(name: str, action: Action) -> object:
        result = original(name, action)
        found[name].append((action, result))
        return result

    loopback.perform = perform  # type: ignore[method-assign]
    loopback.run()
    return found


def cursors(trace: Trace) -> list[tuple[int, Cursor]]:
    """All places at which a checkpoint may be written: index of the next action, and the cursor."""
    found, history = [], Cursor()
    for index, (action, _) in enumerate(trace, start=1):
        match action:
            case Begin():
                found.append((index, history))
            case Backward(step=step, ends_step=True, ahead=ahead):
                found.append((index, Cursor(step=step, ahead=ahead, history=history.history)))
            case Update(step=step) | BaseSteps(step=step) | FuseSteps(step=step):
                found.append((index, Cursor(step=step, history=history.history)))
            case EpochEnd(cursor=history):
                found.append((index, history))
            case _:
                pass
    return found


@given(
    data=st.data(),
    peers=st.integers(1, 3),
    patience=st.none() | st.integers(1, 2),
    schedule=st.sampled_from(SCHEDULES),
)
def test_a_session_goes_on_from_any_cursor_as_if_it_had_never_stopped(
    data: st.DataObject, peers: int, patience: int | None, schedule: Schedule
) -> None:
    stop = None if patience is None else EarlyStop(metric="auc", patience=patience)
    plan = Plan(epochs=4, early_stop=stop, schedule=schedule)
    loopback = Loopback(peers, plan)
    loopback.parties[LABEL].metrics = lambda epoch: {"auc": 0.5 / epoch}
    undisturbed = traces(loopback)
    name = data.draw(st.sampled_from(sorted(loopback.parties)))
    trace = undisturbed[name]
    where, cursor = data.draw(st.sampled_from(cursors(trace)))

    others = [peer for peer in loopback.parties if peer != LABEL]
    again = label_session(LABEL, others, plan) if name == LABEL else feature_session(LABEL, plan)
    begin = next(i for i, (action, _) in enumerate(trace) if isinstance(action, Begin))
    # The opening is always done anew; then what lies before the cursor is left out, but for the
    # graphs of the activations under way.
    ahead = range(cursor.step + 1, cursor.step + cursor.ahead + 1)
    epoch = len(cursor.history) + 1
    again_made = [(Recompute(epoch=epoch, step=step), None) for step in ahead]
    expected = [*trace[:begin], (Begin(), cursor), *again_made, *trace[where:]]
    result: object = None
    for action, answer in expected:
        assert again.send(result) == action
        result = answer
    with pytest.raises(StopIteration) as end:
        again.send(result)
    outcome = end.value.value
    assert isinstance(outcome, Outcome)
    assert outcome == loopback.parties[name].outcome


def test_there_are_cursors_for_every_step_and_epoch() -> None:
    """So that the property above is about all of them."""
    for trace in traces(Loopback(2, Plan(epochs=2))).values():
        found = [(len(cursor.history), cursor.step) for _, cursor in cursors(trace)]
        first = [(0, step) for step in range(ROWS.steps + 1)]
        second = [(1, step) for step in range(ROWS.steps + 1)]
        assert found == [*first, *second, (2, 0)]
        assert [c.ended for _, c in cursors(trace)][-1] == "the last epoch is done"
