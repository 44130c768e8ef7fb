"""Drives the sessions of several parties against each other, without any I/O."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from slstream.frames.header import FrameKind
from slstream.protocol.actions import (
    Action,
    Adopt,
    Align,
    Arrival,
    Backward,
    BaseSteps,
    Begin,
    Cursor,
    EpochEnd,
    Forward,
    Fuse,
    FuseSteps,
    Hear,
    Match,
    Matched,
    Payload,
    Predict,
    Prepare,
    Prepared,
    Receive,
    Rows,
    Save,
    Score,
    Send,
    Tell,
    Update,
)
from slstream.protocol.feature import feature_session
from slstream.protocol.label import label_session
from slstream.protocol.messages import Join, encode_message
from slstream.protocol.session import Outcome, Plan, Session

ROWS = Rows(alignment="a" * 64, train_rows=96, validation_rows=24, steps=3, evaluation_steps=2)
LABEL = "alice"


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass
class Party:
    """One party whose model is a string of what has happened to it."""

    name: str
    session: Session
    rows: Rows = ROWS
    metrics: Callable[[int], Mapping[str, float]] = lambda epoch: {"auc": epoch / 100}
    state: str = ""
    joined: str = ""
    begin: Cursor = field(default_factory=Cursor)
    """Where training begins."""
    done: list[Action] = field(default_factory=list)
    outcome: Outcome | None = None

    def perform(self, action: Action) -> object:
        """The result of a local action."""
        self.done.append(action)
        match action:
            case Prepare():
                join = Join(
                    digest="0" * 64,
                    rows=2,
                    cut=[4],
                    schemas={"activation": (4,), "evaluation": (5,)},
                    environment={},
                )
                return Prepared(join=join, ids=b"i" * 32)
            case Align():
                return self.rows
            case Begin():
                return self.begin
            case Match():
                peers = sorted(action.joins)
                return Matched(
                    rows=self.rows,
                    bitmaps=dict.fromkeys(peers, b"\xc0"),
                    schemas={peer: {"gradient": (6,)} for peer in peers},
                    party_rows={peer: action.joins[peer].rows for peer in peers},
                )
            case Forward():
                text = f"{self.name}:{action.kind.name}:{action.epoch}:{action.step}:{self.state}"
                return Payload(data=text.encode(), raw_bytes=400)
            case Backward():
                self.state = digest(self.state + action.gradient.payload.decode())
            case Fuse():
                self.joined = "+".join(a.payload.decode() for a in action.activations.values())
                answer = digest(self.state + self.joined)
                return {
                    peer: Payload(data=f"{peer}|{answer}".encode(), raw_bytes=400)
                    for peer in action.activations
                }
            case BaseSteps() | FuseSteps():
                self.state = digest(f"{self.state} {action}")
            case Update():
                self.state = digest(self.state + self.joined)
            case Score():
                return self.metrics(action.epoch)
            case Save():
                return digest(self.name + self.state)
            case Adopt() | EpochEnd() | Predict():
                pass
            case _:
                raise AssertionError(action)
        return None


class Loopback:
    """All parties of a session in one thread; links are queues."""

    def __init__(self, peers: int, plan: Plan) -> None:
        names = [f"peer-{index}" for index in range(peers)]
        self.parties = {LABEL: Party(LABEL, label_session(LABEL, names, plan))}
        for name in names:
            self.parties[name] = Party(name, feature_session(LABEL, plan))
        self.links: dict[tuple[str, str], deque[Arrival]] = {}
        self.log: list[tuple[str, str, Arrival]] = []

    def run(self, order: Callable[[list[str]], str] = min) -> dict[str, Outcome]:
        """Run to the end; ``order`` picks which of the parties that can go on does."""
        pending: dict[str, Action] = {
            name: next(party.session) for name, party in self.parties.items()
        }
        while pending:
            ready = [n for n, action in pending.items() if self.can_perform(n, action)]
            assert ready, f"deadlock: {pending}"
            name = order(ready)
            party = self.parties[name]
            try:
                pending[name] = party.session.send(self.perform(name, pending[name]))
            except StopIteration as stop:
                party.outcome = stop.value
                del pending[name]
        assert not any(self.links.values()), "frames were left unread"
        return {n: p.outcome for n, p in self.parties.items() if p.outcome is not None}

    def can_perform(self, name: str, action: Action) -> bool:
        if isinstance(action, Receive | Hear):
            return bool(self.links.get((action.peer, name)))
        return True

    def perform(self, name: str, action: Action) -> object:
        match action:
            case Receive() | Hear():
                return action.accept(self.links[action.peer, name].popleft())
            case Send():
                self._append(
                    name,
                    action.peer,
                    Arrival(
                        kind=action.kind,
                        epoch=action.epoch,
                        step=action.step,
                        micro_batch=action.micro_batch,
                        schema_id=1,
                        payload=action.payload.data,
                    ),
                )
            case Tell():
                payload = encode_message(action.message)
                self._append(name, action.peer, control(payload))
            case _:
                return self.parties[name].perform(action)
        return None

    def _append(self, sender: str, receiver: str, arrival: Arrival) -> None:
        self.links.setdefault((sender, receiver), deque()).append(arrival)
        self.log.append((sender, receiver, arrival))


def control(payload: bytes) -> Arrival:
    return Arrival(
        kind=FrameKind.CONTROL, epoch=0, step=0, micro_batch=0, schema_id=1, payload=payload
    )
