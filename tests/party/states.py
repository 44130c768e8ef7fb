"""Small models in training, and checkpoints of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from slstream.party.checkpoint import Checkpoint, Standing
from slstream.party.link_reader import LinkMark
from slstream.party.model_state import ModelState, Trained
from slstream.party.summary import Summary, TimeSpent, Traffic
from slstream.protocol.actions import Cursor

Optimizers = dict[str, Callable[[Any], torch.optim.Optimizer]]

OPTIMIZERS: Optimizers = {
    "adam": lambda p: torch.optim.Adam(p, lr=0.01),
    "adam amsgrad": lambda p: torch.optim.Adam(p, lr=0.01, amsgrad=True),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.1),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.01, momentum=0.9, centered=True),
    "sgd": lambda p: torch.optim.SGD(p, lr=0.01),
    "sgd momentum": lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9, nesterov=True),
}


class Part:
    """A model with everything that changes in training: buffers, frozen parameters, moments."""

    def __init__(self, optimizer: str | None = "adam", seed: int = 0) -> None:
        torch.manual_seed(seed)
        self.module = nn.Sequential(
            nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Dropout(0.2), nn.Linear(4, 2)
        )
        self.module[0].bias.requires_grad_(False)
        self.optimizer = None if optimizer is None else OPTIMIZERS[optimizer](self.parameters())

    def parameters(self) -> list[nn.Parameter]:
        return [p for p in self.module.parameters() if p.requires_grad]

    def trained(self) -> Trained:
        optimizers = {} if self.optimizer is None else {"base": self.optimizer}
        return Trained(modules={"base": self.module}, optimizers=optimizers)

    def step(self, number: int) -> None:
        """As training does it, randomness is a function of the step."""
        torch.manual_seed(number)
        self.module.train()
        self.module.zero_grad()
        self.module(torch.randn(8, 3)).square().sum().backward()
        if self.optimizer is not None:
            self.optimizer.step()


def standing(**changes: Any) -> Standing:
    fields: dict[str, Any] = {
        "federation": "small",
        "party": "bob",
        "session": "s1",
        "digest": "0" * 64,
        "incarnation": 3,
        "cursor": Cursor(step=50, history=({"auc": 0.5, "loss": 0.1}, {"auc": 0.75, "loss": 0.01})),
        "inbound": {"alice": LinkMark(offset=9, next_sequence=7, incarnation=2)},
        "outbound": {"alice": LinkMark(offset=11, next_sequence=8, incarnation=3)},
        "traffic": [
            Traffic(
                sender="bob",
                receiver="alice",
                kind="activation",
                codec="fp16",
                frames=5,
                raw_bytes=900,
                wire_bytes=450,
            )
        ],
        "time": TimeSpent(
            opening_s=1.0, compute_s=2.0, codec_s=0.5, transport_s=0.25, waiting_s=3.0, total_s=7.0
        ),
        "environment": {"torch": "2.6", "place": "Köln"},
    }
    return Standing(**{**fields, **changes})


def at(epochs: int, steps: int, **changes: Any) -> Standing:
    history = tuple({"auc": float(epoch)} for epoch in range(epochs))
    return standing(cursor=Cursor(step=steps, history=history), **changes)


def checkpoint(model: ModelState | None = None, **changes: Any) -> Checkpoint:
    found = Part().trained().capture() if model is None else model
    return Checkpoint(standing=standing(**changes), model=found)


def assert_same(first: ModelState, second: ModelState, why: str = "") -> None:
    """To the bit, and of the same types."""
    differing = [
        name
        for name in sorted({*first.tensors, *second.tensors})
        if not _equal(first.tensors.get(name), second.tensors.get(name))
    ]
    # As JSON, which has no tuples.
    numbers, others = (json.dumps(s.optimizers, sort_keys=True) for s in (first, second))
    if differing or numbers != others:
        pytest.fail(f"{why}: {differing}, {numbers}, {others}")


def _equal(one: torch.Tensor | None, two: torch.Tensor | None) -> bool:
    if one is None or two is None or (one.dtype, one.shape) != (two.dtype, two.shape):
        return False
    return torch.equal(one.reshape(-1).view(torch.uint8), two.reshape(-1).view(torch.uint8))


def summary_of_session(session: str) -> Summary:
    return Summary(
        federation="small",
        session=session,
        outcome="finished",
        epochs=1,
        steps=3,
        metrics={},
        history=[{}],
        rows={},
        party_rows={},
        traffic=[],
        time={
            "bob": TimeSpent(
                opening_s=0, compute_s=0, codec_s=0, transport_s=0, waiting_s=0, total_s=0
            )
        },
        weights={},
        environment={},
    )
