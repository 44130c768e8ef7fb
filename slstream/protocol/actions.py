"""What a session asks of its party, one action at a time.

A session is a generator: it yields an action and is sent the action's result. What it yields next
depends on nothing but its arguments and those results, so a party is a deterministic function of
its data and the frames it receives. The party that performs the actions may do I/O; a session
never does.

:class:`Receive` always names the link it reads: which frame comes next is never a matter of
arrival order. (Such a network of processes has one outcome whatever the timing: Kahn, "The
semantics of a simple language for parallel programming", 1974.)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from slstream.errors import RemoteProtocolError, SessionAborted, SessionRefused
from slstream.frames.header import FrameKind
from slstream.protocol.messages import Abort, Join, Message, Refuse, decode_message


@dataclass(frozen=True, slots=True, kw_only=True)
class Payload:
    """An encoded tensor, opaque to the session."""

    data: bytes
    raw_bytes: int
    """Size of the same tensor as uncompressed float32."""
    schema_id: int | None = None
    """Says how to decode it; ``None`` for what is no tensor, whose kind says it all."""
    choice: str = ""
    """Why it is encoded otherwise than the one before, where the sender chooses."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """What a session may look at in a frame that arrived."""

    kind: FrameKind
    epoch: int
    step: int
    micro_batch: int
    schema_id: int
    """One of those that were negotiated for this kind."""
    payload: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """What all parties know alike once their rows are matched."""

    alignment: str
    """Digest of the matched rows, SHA-256 in hex."""
    train_rows: int
    validation_rows: int
    steps: int
    """Training steps of an epoch."""
    evaluation_steps: int
    """Batches of an evaluation."""


# Actions of both roles --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Receive:
    """Wait for the next frame of one link. Result: :class:`Arrival`."""

    peer: str
    kind: FrameKind
    epoch: int = 0
    step: int = 0
    micro_batch: int = 0

    def accept(self, arrival: Arrival) -> Arrival:
        """The frame, when it is the one that this state allows.

        Raises:
            SessionAborted: the peer gave up.
            SessionRefused: the peer declined.
            RemoteProtocolError: any other frame; says which was expected and which was found.
        """
        if arrival.kind is FrameKind.CONTROL and self.kind is not FrameKind.CONTROL:
            raise_if_over(self.peer, decode_message(arrival.payload))
        expected = (self.kind, self.epoch, self.step, self.micro_batch)
        found = (arrival.kind, arrival.epoch, arrival.step, arrival.micro_batch)
        if found != expected:
            raise RemoteProtocolError(
                f"{self.peer} sent {_describe(*found)}; expected {_describe(*expected)}"
            )
        return arrival

    def __str__(self) -> str:
        return f"{self.peer}'s {_describe(self.kind, self.epoch, self.step, self.micro_batch)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Hear:
    """Wait for a control message of one link. Result: the message, of one of ``types``."""

    peer: str
    types: tuple[type[Message], ...]

    def accept(self, arrival: Arrival) -> Message:
        """The message, when it is one that this state allows.

        Raises:
            SessionAborted: the peer gave up.
            SessionRefused: the peer declined.
            RemoteProtocolError: not a control frame, or a message of another type.
        """
        found = _describe(arrival.kind, arrival.epoch, arrival.step, arrival.micro_batch)
        if arrival.kind is FrameKind.CONTROL:
            message = decode_message(arrival.payload)
            raise_if_over(self.peer, message)
            if isinstance(message, self.types):
                return message
            found = f"the message {message.type!r}"
        raise RemoteProtocolError(f"{self.peer} sent {found}; expected {self._expected()}")

    def _expected(self) -> str:
        return "the message " + " or ".join(
            repr(t.model_fields["type"].default) for t in self.types
        )

    def __str__(self) -> str:
        return f"{self.peer}'s {self._expected().removeprefix('the ')}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Send:
    """Append a tensor or blob to a link. Result: ``None``."""

    peer: str
    kind: FrameKind
    payload: Payload
    epoch: int = 0
    step: int = 0
    micro_batch: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Tell:
    """Append a control message to a link. Result: ``None``."""

    peer: str
    message: Message


@dataclass(frozen=True, slots=True, kw_only=True)
class Cursor:
    """How far training has come; with the model's state, all that a session needs to go on."""

    step: int = 0
    """Steps done of the epoch that follows those in ``history``."""
    ahead: int = 0
    """Steps after that whose activations this party has sent."""
    history: tuple[Mapping[str, float], ...] = ()
    """Metrics of each epoch that is evaluated."""
    ended: str | None = None
    """Why training is over; ``None`` while it goes on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Begin:
    """Begin to train, at a checkpoint when there is one. Result: :class:`Cursor`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochEnd:
    """An epoch is evaluated; report it and keep its state. Result: ``None``."""

    cursor: Cursor
    """Its history ends with this epoch."""

    @property
    def epoch(self) -> int:
        """From 1."""
        return len(self.cursor.history)

    @property
    def metrics(self) -> Mapping[str, float]:
        """Of this epoch."""
        return self.cursor.history[-1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Save:
    """Write the final weights. Result: SHA-256 of the file in hex."""


# Actions of a feature party ---------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepare:
    """Load the table and build the base model. Result: :class:`Prepared`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """What a feature party says of itself at the opening."""

    join: Join
    ids: bytes
    """Sorted id digests, one after another."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Align:
    """Select and order the rows that all parties hold. Result: :class:`Rows`."""

    matched: bytes
    """Bitmap over the sorted id digests."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Adopt:
    """Check that the label party's schemas can be decoded here, and use them. Result: ``None``."""

    schemas: Mapping[str, tuple[int, ...]]
    """Schema ids by frame kind."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Forward:
    """Compute and encode the activation of a batch. Result: :class:`Payload`."""

    kind: FrameKind
    """``ACTIVATION`` for a training batch, ``EVALUATION`` for a validation batch."""
    epoch: int
    step: int
    micro_batch: int = 0
    """Which slice of the batch, from 0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recompute:
    """Compute the activation of a batch under way again, for its gradient. Result: ``None``."""

    epoch: int
    step: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Backward:
    """Decode a gradient and propagate it; at the end of a step, have the optimiser use it.

    Result: ``None``.
    """

    epoch: int
    step: int
    micro_batch: int = 0
    gradient: Arrival
    ends_step: bool = True
    ahead: int = 0
    """Later steps whose activations are sent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseSteps:
    """Train on a batch with the gradients that came for its rows before. Result: ``None``."""

    epoch: int
    step: int


# Actions of the label party ---------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """Match the rows of all parties and build the fuse model. Result: :class:`Matched`."""

    joins: Mapping[str, Join]
    ids: Mapping[str, bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Matched:
    """What the label party tells each peer after matching."""

    rows: Rows
    bitmaps: Mapping[str, bytes]
    """By peer: which of its sorted id digests are matched."""
    schemas: Mapping[str, Mapping[str, tuple[int, ...]]]
    """By peer: schema ids by frame kind of what the label party will send to it."""
    party_rows: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fuse:
    """Compute loss and gradients of a slice of a batch, from the activations of all peers.

    Result: the encoded gradients, ``Mapping[str, Payload]`` by peer.
    """

    epoch: int
    step: int
    micro_batch: int = 0
    activations: Mapping[str, Arrival] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Update:
    """Have the optimisers use the gradients of all slices of a batch. Result: ``None``.

    An action of its own, so that the peers have their gradients first.
    """

    epoch: int
    step: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FuseSteps:
    """Train on a batch with the activations that came for its rows before. Result: ``None``."""

    epoch: int
    step: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Predict:
    """Compute and keep the outputs of a validation batch. Result: ``None``."""

    epoch: int
    step: int
    activations: Mapping[str, Arrival] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """Metrics over the whole validation set. Result: ``Mapping[str, float]``."""

    epoch: int


Action = (
    Receive
    | Hear
    | Send
    | Tell
    | Begin
    | EpochEnd
    | Save
    | Prepare
    | Align
    | Adopt
    | Forward
    | Recompute
    | Backward
    | BaseSteps
    | Match
    | Fuse
    | FuseSteps
    | Update
    | Predict
    | Score
)


def raise_if_over(peer: str, message: Message) -> None:
    """Turn a peer's last word into the error that ends this side.

    Raises:
        SessionAborted: the message is an abort.
        SessionRefused: the message is a refusal.
    """
    if isinstance(message, Abort):
        raise SessionAborted(f"{peer} gave up: {message.reason}")
    if isinstance(message, Refuse):
        raise SessionRefused(f"{peer} refused to take part: {message.reason}")


def _describe(kind: FrameKind, epoch: int, step: int, micro_batch: int) -> str:
    text = kind.name.lower()
    if epoch or step:
        text += f" of epoch {epoch}, step {step}"
    return f"{text}, micro-batch {micro_batch}" if micro_batch else text
