"""What the tests of links send, and who sends it."""

from __future__ import annotations

from dataclasses import dataclass, field

from slstream.frames.frame import Frame
from slstream.frames.header import FrameKind
from slstream.frames.link import FrameWriter
from slstream.party.ledger import Ledger
from slstream.party.link_reader import LinkReader, Place
from slstream.party.link_speed import LinkSpeed
from slstream.party.outbound import Outbound, Outgoing
from slstream.party.times import Times
from slstream.protocol.messages import Message, encode_message
from slstream.transport.contract import Record, Transport

TOPIC = "small.bob-to-alice.s1"
IDS = {FrameKind.CONTROL: 1, FrameKind.ACTIVATION: 4}


def activation(payload: bytes, step: int = 1) -> Outgoing:
    return Outgoing(
        kind=FrameKind.ACTIVATION,
        schema_id=IDS[FrameKind.ACTIVATION],
        payload=payload,
        codec="c",
        raw_bytes=4000,
        epoch=1,
        step=step,
    )


def message(content: Message) -> Outgoing:
    return Outgoing(
        kind=FrameKind.CONTROL,
        schema_id=IDS[FrameKind.CONTROL],
        payload=encode_message(content),
        codec="json",
        raw_bytes=50,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Logged:
    """What an Outbound has told about a frame that was in the log already."""

    receiver: str
    computed: Outgoing
    logged: Frame
    place: Place


@dataclass
class Bob:
    """One process of bob's, at its end of the link to alice."""

    transport: Transport
    incarnation: int
    ledger: Ledger = field(default_factory=lambda: Ledger("bob"))
    compared: list[Logged] = field(default_factory=list)
    most_under_way: int = 0
    speed: LinkSpeed = field(default_factory=lambda: LinkSpeed(chooses=True, tells=True))

    def __post_init__(self) -> None:
        self.outbound = Outbound(
            self.transport,
            TOPIC,
            sender="bob",
            receiver="alice",
            incarnation=self.incarnation,
            ledger=self.ledger,
            times=Times(),
            on_logged=self._note,
            speed=self.speed,
            most_under_way=self.most_under_way,
        )

    async def _note(self, receiver: str, computed: Outgoing, logged: Frame, place: Place) -> None:
        entry = Logged(receiver=receiver, computed=computed, logged=logged, place=place)
        self.compared.append(entry)

    async def send(self, *payloads: bytes, first: int = 1) -> None:
        """Activations of steps ``first``, ``first + 1``, ..."""
        for step, payload in enumerate(payloads, start=first):
            await self.outbound.send(activation(payload, step))


async def append(transport: Transport, *values: bytes) -> None:
    await transport.append(TOPIC, [Record(value=value) for value in values])


async def delivered(transport: Transport) -> list[Frame]:
    """What alice gets in the end."""
    reader = LinkReader(transport, TOPIC, "bob", Times())
    while await reader.read_ahead():
        pass
    frames = []
    while reader.is_ready:
        frames.append(reader.take())
    return frames


def records_of(
    payload: bytes, *, sequence: int, incarnation: int, step: int | None = None, chunk: int = 524288
) -> list[bytes]:
    """The records of an activation, as another process would append them."""
    writer = FrameWriter(
        sender="bob", incarnation=incarnation, next_sequence=sequence, chunk_bytes=chunk
    )
    records = writer.write(
        kind=FrameKind.ACTIVATION,
        schema_id=IDS[FrameKind.ACTIVATION],
        payload=payload,
        epoch=1,
        step=sequence + 1 if step is None else step,
    )
    return [record.value for record in records]
