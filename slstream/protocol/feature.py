"""A feature party's session, from joining to its clean end."""

from __future__ import annotations

from slstream.errors import RemoteProtocolError
from slstream.frames.header import FrameKind
from slstream.protocol.actions import (
    Adopt,
    Align,
    Arrival,
    Begin,
    Cursor,
    EpochEnd,
    Forward,
    Hear,
    Payload,
    Prepare,
    Prepared,
    Receive,
    Rows,
    Save,
    Send,
    Tell,
)
from slstream.protocol.messages import Done, End, Open, Ready, Verdict
from slstream.protocol.session import Plan, Session, expect
from slstream.protocol.training import feature_epoch


def feature_session(label_party: str, plan: Plan) -> Session:
    """Join, align, train, evaluate after each epoch, save.

    Raises:
        RemoteProtocolError: the label party's opening or verdict contradicts what this party
            computed itself.
    """
    prepared = expect((yield Prepare()), Prepared)
    yield Tell(peer=label_party, message=prepared.join)
    ids = Payload(data=prepared.ids, raw_bytes=len(prepared.ids))
    yield Send(peer=label_party, kind=FrameKind.IDS, payload=ids)

    matched = yield Receive(peer=label_party, kind=FrameKind.MATCH)
    rows = expect((yield Align(matched=expect(matched, Arrival).payload)), Rows)
    opening = expect((yield Hear(peer=label_party, types=(Open,))), Open)
    _check_opening(label_party, opening, rows)
    yield Adopt(schemas=opening.schemas)
    yield Tell(peer=label_party, message=Ready())

    cursor = expect((yield Begin()), Cursor)
    while cursor.ended is None:
        epoch = len(cursor.history) + 1
        yield from feature_epoch(label_party, rows, plan.schedule, cursor)
        for step in range(1, rows.evaluation_steps + 1):
            activation = yield Forward(kind=FrameKind.EVALUATION, epoch=epoch, step=step)
            yield Send(
                peer=label_party,
                kind=FrameKind.EVALUATION,
                payload=expect(activation, Payload),
                epoch=epoch,
                step=step,
            )
        verdict = expect((yield Hear(peer=label_party, types=(Verdict,))), Verdict)
        if verdict.epoch != epoch or (verdict.proceed and epoch == plan.epochs):
            raise RemoteProtocolError(
                f"{label_party}'s verdict is on epoch {verdict.epoch} "
                f"(proceed={verdict.proceed}); expected one on epoch {epoch} of {plan.epochs}"
            )
        cursor = Cursor(
            history=(*cursor.history, verdict.metrics),
            ended=None if verdict.proceed else verdict.reason,
        )
        yield EpochEnd(cursor=cursor)

    yield Tell(peer=label_party, message=Done(weights=expect((yield Save()), str)))
    end = expect((yield Hear(peer=label_party, types=(End,))), End)
    return plan.outcome(cursor, rows, weights=end.weights, party_rows=opening.party_rows)


def _check_opening(label_party: str, opening: Open, rows: Rows) -> None:
    for field in ("alignment", "train_rows", "validation_rows"):
        theirs, mine = getattr(opening, field), getattr(rows, field)
        if theirs != mine:
            raise RemoteProtocolError(
                f"{label_party}'s opening says {field} = {theirs}; this party computed {mine}"
            )
