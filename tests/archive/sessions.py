"""Logs with small sessions, as parties write them, for the tests of archives."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

from slstream.archive.export import export_session
from slstream.frames.header import FrameKind
from slstream.frames.link import FrameWriter
from slstream.frames.topics import (
    divergences_topic,
    incarnations_topic,
    link_topic,
    lobby_topic,
    schemas_topic,
    telemetry_topic,
)
from slstream.protocol.messages import Announce, Close, encode_message
from slstream.schemas.document import ContentSchema, Schema, SchemaKind, TensorSchema
from slstream.transport.contract import Record, StoredRecord, Transport
from slstream.transport.embedded.transport import EmbeddedTransport

FEDERATION = "credit"
SESSION = "20260131-101500-7f3a2b"
OTHER = "20260130-090000-aa11bb"
UP = link_topic(FEDERATION, "bob", "alice", SESSION)
DOWN = link_topic(FEDERATION, "alice", "bob", SESSION)
SILENT = link_topic(FEDERATION, "zoe", "alice", SESSION)
LOBBY = lobby_topic(FEDERATION)
SCHEMAS = schemas_topic(FEDERATION)
INCARNATIONS = incarnations_topic(FEDERATION, "bob")
DIVERGENCES = divergences_topic(FEDERATION, "bob")

CONTROL = ContentSchema(kind=SchemaKind.CONTROL)
T = TypeVar("T")


def tensor(kind: SchemaKind, width: int) -> Schema:
    return TensorSchema.build(kind=kind, tensor="cut", row_shape=(width,), codec=[{"id": "raw32"}])


SCHEMA_LOG = [CONTROL, tensor(SchemaKind.ACTIVATION, 64), tensor(SchemaKind.GRADIENT, 64)]
"""Their ids are 1, 2 and 3."""


def frames(
    sender: str,
    kind: FrameKind,
    schema_id: int,
    *,
    count: int,
    size: int = 100,
    chunk_bytes: int = 65_536,
    incarnation: int = 1,
    first: int = 0,
) -> list[list[Record]]:
    """A control frame and ``count`` tensor frames; the records of each are appended at once."""
    writer = FrameWriter(
        sender=sender, incarnation=incarnation, next_sequence=first, chunk_bytes=chunk_bytes
    )
    written = [writer.write(kind=FrameKind.CONTROL, schema_id=1, payload=b'{"type":"ready"}')]
    for step in range(count):
        payload = bytes((step + n) % 251 for n in range(size))
        written.append(
            writer.write(kind=kind, schema_id=schema_id, payload=payload, epoch=1, step=step)
        )
    return [
        [Record(key=each.key, headers=each.headers, value=each.value) for each in group]
        for group in written
    ]


def announce(session: str, federation: str = FEDERATION) -> Record:
    message = Announce(
        session=session,
        federation=federation,
        label_party="alice",
        agreed={"seed": 1},
        digest="ab" * 32,
        id_key="",
        environment={"torch": "2"},
        incarnation=1,
    )
    return Record(
        key=session.encode(), headers=(("kind", b"lobby"),), value=encode_message(message)
    )


def close(session: str) -> Record:
    value = encode_message(Close(session=session, outcome="finished", incarnation=1))
    return Record(key=session.encode(), headers=(("kind", b"lobby"),), value=value)


def claim(pid: int) -> Record:
    value = json.dumps({"host": "h", "pid": pid}).encode()
    return Record(key=b"bob", value=value)


def about(session: str, **fields: object) -> Record:
    return Record(key=None, value=json.dumps({"session": session, **fields}).encode())


async def append(log: Transport, topic: str, *groups: list[Record]) -> None:
    await log.create_topic(topic)
    for group in groups:
        await log.append(topic, group)


async def write_session(
    log: Transport, *, count: int = 12, size: int = 100, chunk_bytes: int = 65_536
) -> None:
    """A session among others, with a restart of bob, telemetry, and a link that stayed empty."""
    schemas = [Record(value=each.canonical_json().encode()) for each in SCHEMA_LOG]
    await append(log, SCHEMAS, schemas)
    await append(log, LOBBY, [announce(OTHER)], [close(OTHER)], [announce(SESSION)])
    other = link_topic(FEDERATION, "bob", "alice", OTHER)
    await append(log, other, *frames("bob", FrameKind.ACTIVATION, 2, count=3))
    await append(log, INCARNATIONS, [claim(1)], [claim(2)])
    await append(log, incarnations_topic(FEDERATION, "alice"), [claim(3)])
    await append(log, incarnations_topic(FEDERATION, "dave"), [claim(4)])
    up = frames(
        "bob",
        FrameKind.ACTIVATION,
        2,
        count=count,
        size=size,
        chunk_bytes=chunk_bytes,
        incarnation=2,
    )
    again = frames("bob", FrameKind.ACTIVATION, 2, count=2, incarnation=4, first=count + 1)
    await append(log, UP, *up, *again)
    down = frames("alice", FrameKind.GRADIENT, 3, count=count, size=size, chunk_bytes=chunk_bytes)
    await append(log, DOWN, *down)
    await append(log, SILENT)
    await append(log, INCARNATIONS, [claim(5)], [claim(6)], [claim(7)])
    await append(log, DIVERGENCES, [about(OTHER)], [about(SESSION, step=3)])
    await append(log, telemetry_topic(FEDERATION, "bob"), [about(SESSION)])
    await append(log, LOBBY, [Record(value=b"no message")], [close(SESSION)], [announce("later")])


def with_log(folder: Path, body: Callable[[Transport], Awaitable[T]]) -> T:
    """Run something on the log in a folder."""

    async def run() -> T:
        async with await EmbeddedTransport.open(folder) as log:
            return await body(log)

    return asyncio.run(run())


def make_archive(folder: Path, **sizes: int) -> Path:
    """An archive of the session, and the log beside it."""
    path = folder / "session.mcap"

    async def body(log: Transport) -> None:
        await write_session(log, **sizes)
        await export_session(log, SESSION, path)

    with_log(folder / "log", body)
    return path


async def all_of(log: Transport, topic: str, **limits: int) -> list[StoredRecord]:
    """Everything from offset 0, as a fold reads it."""
    found: list[StoredRecord] = []
    offset = 0
    while records := await log.read(topic, offset, **limits):
        found += records
        offset = records[-1].offset + 1
    return found
