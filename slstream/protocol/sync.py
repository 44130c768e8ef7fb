"""The ``sync`` schedule: one batch at a time, as in SecretFlow's ``split_nn``.

Every peer sends the activation of a step; the label party answers each with a gradient; all take
their optimiser step; then comes the next step. Without lossy codecs this is the same arithmetic as
training the joined model in one process, to the bit.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping, Sequence
from typing import Any

from slstream.frames.header import FrameKind
from slstream.protocol.actions import (
    Action,
    Arrival,
    Backward,
    Forward,
    Fuse,
    Payload,
    Receive,
    Send,
    Update,
)
from slstream.protocol.session import expect

Part = Generator[Action, Any, None]


def feature_epoch(label_party: str, epoch: int, steps: Iterable[int]) -> Part:
    """A feature party's training steps of one epoch (both count from 1)."""
    for step in steps:
        activation = yield Forward(kind=FrameKind.ACTIVATION, epoch=epoch, step=step)
        yield Send(
            peer=label_party,
            kind=FrameKind.ACTIVATION,
            payload=expect(activation, Payload),
            epoch=epoch,
            step=step,
        )
        gradient = yield Receive(peer=label_party, kind=FrameKind.GRADIENT, epoch=epoch, step=step)
        yield Backward(epoch=epoch, step=step, gradient=expect(gradient, Arrival))


def label_epoch(peers: Sequence[str], epoch: int, steps: Iterable[int]) -> Part:
    """The label party's training steps of one epoch."""
    for step in steps:
        activations: dict[str, Arrival] = {}
        for peer in peers:
            activation = yield Receive(peer=peer, kind=FrameKind.ACTIVATION, epoch=epoch, step=step)
            activations[peer] = expect(activation, Arrival)
        gradients: Mapping[str, Payload] = yield Fuse(
            epoch=epoch, step=step, activations=activations
        )
        for peer in peers:
            yield Send(
                peer=peer,
                kind=FrameKind.GRADIENT,
                payload=gradients[peer],
                epoch=epoch,
                step=step,
            )
        yield Update(epoch=epoch, step=step)
