"""The training steps of an epoch, as each role performs them under each schedule."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from typing import Any

from slstream.frames.header import FrameKind
from slstream.protocol.actions import (
    Action,
    Arrival,
    Backward,
    BaseSteps,
    Cursor,
    Forward,
    Fuse,
    FuseSteps,
    Payload,
    Receive,
    Recompute,
    Rows,
    Send,
    Update,
)
from slstream.protocol.schedule import Order, Schedule
from slstream.protocol.session import expect

Part = Generator[Action, Any, None]


def feature_epoch(label_party: str, rows: Rows, schedule: Schedule, cursor: Cursor) -> Part:
    """What a feature party does from ``cursor`` to the end of its epoch."""
    epoch = len(cursor.history) + 1
    if schedule.order is Order.PIPELINE:
        yield from _pipeline(label_party, rows.steps, schedule.pipeline_size, epoch, cursor)
        return
    for step in range(cursor.step + 1, rows.steps + 1):
        if not schedule.is_exchanged(epoch, step):
            yield BaseSteps(epoch=epoch, step=step)
            continue
        slices = range(schedule.micro_batches(step, rows.train_rows))
        if schedule.order is Order.MICROBATCH:
            for number in slices:
                yield from _forward(label_party, epoch, step, number)
            for number in slices:
                yield from _backward(label_party, epoch, step, number, last=slices[-1])
        else:
            for number in slices:
                yield from _forward(label_party, epoch, step, number)
                yield from _backward(label_party, epoch, step, number, last=slices[-1])


def _pipeline(label_party: str, steps: int, size: int, epoch: int, cursor: Cursor) -> Part:
    sent = cursor.step + cursor.ahead
    for step in range(cursor.step + 1, sent + 1):
        yield Recompute(epoch=epoch, step=step)  # the log has it, but its graph is gone
    for step in range(cursor.step + 1, steps + 1):
        while sent < min(step + size - 1, steps):
            sent += 1
            yield from _forward(label_party, epoch, sent)
        yield from _backward(label_party, epoch, step, ahead=sent - step)


def _forward(label_party: str, epoch: int, step: int, micro_batch: int = 0) -> Part:
    activation = yield Forward(
        kind=FrameKind.ACTIVATION, epoch=epoch, step=step, micro_batch=micro_batch
    )
    yield Send(
        peer=label_party,
        kind=FrameKind.ACTIVATION,
        payload=expect(activation, Payload),
        epoch=epoch,
        step=step,
        micro_batch=micro_batch,
    )


def _backward(
    label_party: str, epoch: int, step: int, micro_batch: int = 0, *, last: int = 0, ahead: int = 0
) -> Part:
    gradient = yield Receive(
        peer=label_party,
        kind=FrameKind.GRADIENT,
        epoch=epoch,
        step=step,
        micro_batch=micro_batch,
    )
    yield Backward(
        epoch=epoch,
        step=step,
        micro_batch=micro_batch,
        gradient=expect(gradient, Arrival),
        ends_step=micro_batch == last,
        ahead=ahead,
    )


def label_epoch(peers: Sequence[str], rows: Rows, schedule: Schedule, cursor: Cursor) -> Part:
    """What the label party does from ``cursor`` to the end of its epoch.

    The same under each order: it answers what comes, in the order in which it comes.
    """
    epoch = len(cursor.history) + 1
    for step in range(cursor.step + 1, rows.steps + 1):
        if not schedule.is_exchanged(epoch, step):
            yield FuseSteps(epoch=epoch, step=step)
            continue
        for number in range(schedule.micro_batches(step, rows.train_rows)):
            yield from _fuse(peers, epoch, step, number)
        yield Update(epoch=epoch, step=step)


def _fuse(peers: Sequence[str], epoch: int, step: int, micro_batch: int) -> Part:
    activations: dict[str, Arrival] = {}
    for peer in peers:
        activation = yield Receive(
            peer=peer,
            kind=FrameKind.ACTIVATION,
            epoch=epoch,
            step=step,
            micro_batch=micro_batch,
        )
        activations[peer] = expect(activation, Arrival)
    gradients: Mapping[str, Payload] = yield Fuse(
        epoch=epoch, step=step, micro_batch=micro_batch, activations=activations
    )
    for peer in peers:
        yield Send(
            peer=peer,
            kind=FrameKind.GRADIENT,
            payload=gradients[peer],
            epoch=epoch,
            step=step,
            micro_batch=micro_batch,
        )
