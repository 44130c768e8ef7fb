"""A log written by hand: what parties would have written, crashes included."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from slstream.frames.header import FrameKind
from slstream.frames.link import FrameRecord, FrameWriter
from slstream.frames.topics import link_topic, lobby_topic
from slstream.protocol.messages import Announce, Close, Message, Resume, encode_message
from slstream.transport.connect import embedded_url, open_transport
from slstream.transport.contract import Record, Transport

SESSION = "20260131-120000-7f3a00"


class SmallLog:
    """Appends to the log of a federation."""

    def __init__(self, log: Transport, federation: str = "credit") -> None:
        self.log = log
        self.federation = federation

    async def append(self, topic: str, values: Sequence[bytes]) -> None:
        await self.log.create_topic(topic)
        for value in values:
            await self.log.append(topic, [Record(value=value)])

    async def lobby(self, *messages: Message | bytes) -> None:
        values = [m if isinstance(m, bytes) else encode_message(m) for m in messages]
        await self.append(lobby_topic(self.federation), values)

    async def link(
        self, sender: str, receiver: str, records: Sequence[FrameRecord], session: str = SESSION
    ) -> None:
        topic = link_topic(self.federation, sender, receiver, session)
        await self.log.create_topic(topic)
        for r in records:
            await self.log.append(topic, [Record(key=r.key, headers=r.headers, value=r.value)])


def announce(session: str = SESSION, **changes: object) -> Announce:
    fields: dict[str, object] = {
        "federation": "credit",
        "label_party": "bob",
        "agreed": {"training": {"epochs": 4}},
        "digest": "0" * 64,
        "id_key": "",
        "environment": {},
        "incarnation": 1,
    }
    return Announce(session=session, **{**fields, **changes})  # type: ignore[arg-type]


def resume(incarnation: int, session: str = SESSION) -> Resume:
    return Resume(session=session, incarnation=incarnation)


def close(
    outcome: Literal["finished", "stopped early", "failed", "abandoned"],
    *,
    session: str = SESSION,
    reason: str = "",
    incarnation: int = 1,
) -> Close:
    return Close(session=session, outcome=outcome, reason=reason, incarnation=incarnation)


def frames(
    kind: FrameKind,
    steps: Sequence[tuple[int, int]],
    *,
    incarnation: int = 1,
    sequence: int = 0,
    payload: bytes = b"payload",
    chunk_bytes: int = 512,
) -> list[FrameRecord]:
    """One frame for each (epoch, step)."""
    writer = FrameWriter(
        sender="bob", incarnation=incarnation, next_sequence=sequence, chunk_bytes=chunk_bytes
    )
    records = []
    for epoch, step in steps:
        records += writer.write(kind=kind, schema_id=1, payload=payload, epoch=epoch, step=step)
    return records


def fence(incarnation: int) -> FrameRecord:
    return FrameWriter(sender="bob", incarnation=incarnation).fence()


async def open_log(path: Path) -> Transport:
    return await open_transport(embedded_url(path))
