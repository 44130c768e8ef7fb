"""The label party's session, from the first join to the clean end."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from typing import Any

from slstream.frames.header import FrameKind
from slstream.protocol.actions import (
    Action,
    Arrival,
    Begin,
    Cursor,
    EpochEnd,
    Hear,
    Match,
    Matched,
    Payload,
    Predict,
    Receive,
    Save,
    Score,
    Send,
    Tell,
)
from slstream.protocol.messages import Done, End, Join, Open, Ready, Verdict
from slstream.protocol.session import Plan, Session, expect
from slstream.protocol.training import label_epoch


def label_session(party: str, peers: Sequence[str], plan: Plan) -> Session:
    """Match the rows of all parties, train, evaluate after each epoch, save.

    Args:
        party: the label party.
        peers: the feature parties; they are always heard in this order.
        plan: epochs and early stopping.
    """
    matched = yield from _open(peers)
    rows = matched.rows

    cursor = expect((yield Begin()), Cursor)
    while cursor.ended is None:
        epoch = len(cursor.history) + 1
        yield from label_epoch(peers, rows, plan.schedule, cursor)
        metrics = yield from _evaluate(peers, epoch, rows.evaluation_steps)
        history = (*cursor.history, metrics)
        cursor = Cursor(history=history, ended=plan.end(history))
        verdict = Verdict(
            epoch=epoch, metrics=metrics, proceed=cursor.ended is None, reason=cursor.ended or ""
        )
        for peer in peers:
            yield Tell(peer=peer, message=verdict)
        yield EpochEnd(cursor=cursor)

    weights = {party: expect((yield Save()), str)}
    for peer in peers:
        weights[peer] = expect((yield Hear(peer=peer, types=(Done,))), Done).weights
    for peer in peers:
        yield Tell(peer=peer, message=End(weights=weights))
    return plan.outcome(cursor, rows, weights=weights, party_rows=dict(matched.party_rows))


def _open(peers: Sequence[str]) -> Generator[Action, Any, Matched]:
    joins: dict[str, Join] = {}
    ids: dict[str, bytes] = {}
    for peer in peers:
        joins[peer] = expect((yield Hear(peer=peer, types=(Join,))), Join)
        ids[peer] = expect((yield Receive(peer=peer, kind=FrameKind.IDS)), Arrival).payload
    matched = expect((yield Match(joins=joins, ids=ids)), Matched)
    for peer in peers:
        bitmap = matched.bitmaps[peer]
        yield Send(
            peer=peer,
            kind=FrameKind.MATCH,
            payload=Payload(data=bitmap, raw_bytes=len(bitmap)),
        )
        opening = Open(
            alignment=matched.rows.alignment,
            train_rows=matched.rows.train_rows,
            validation_rows=matched.rows.validation_rows,
            schemas=dict(matched.schemas[peer]),
            party_rows=dict(matched.party_rows),
        )
        yield Tell(peer=peer, message=opening)
    for peer in peers:
        yield Hear(peer=peer, types=(Ready,))
    return matched


def _evaluate(
    peers: Sequence[str], epoch: int, steps: int
) -> Generator[Action, Any, dict[str, float]]:
    for step in range(1, steps + 1):
        activations: dict[str, Arrival] = {}
        for peer in peers:
            activation = yield Receive(peer=peer, kind=FrameKind.EVALUATION, epoch=epoch, step=step)
            activations[peer] = expect(activation, Arrival)
        yield Predict(epoch=epoch, step=step, activations=activations)
    metrics: Mapping[str, float] = yield Score(epoch=epoch)
    return dict(metrics)
