"""The schema registry of a federation over a transport."""

from __future__ import annotations

import asyncio

from slstream.errors import UnknownSchema
from slstream.frames.topics import schemas_topic
from slstream.party.doing import doing
from slstream.schemas.document import Schema
from slstream.schemas.registry import RegisteredSchema, RegistryFold
from slstream.transport.contract import Record, TopicConfig, Transport


class RegistryLog:
    """Reads and extends the ``.schemas`` log; safe for several tasks of one event loop.

    Cancelling any call leaves it usable; a cancelled :meth:`register` may still take effect. All
    calls may raise the transport's own errors.
    """

    def __init__(self, transport: Transport, federation: str) -> None:
        """Bind to a federation's log; call :meth:`open` first.

        Args:
            transport: stays the caller's to close.
            federation: its name.

        Raises:
            ValueError: the name is not allowed.
        """
        self._transport = transport
        self._topic = schemas_topic(federation)
        self._fold = RegistryFold()
        self._reading = asyncio.Lock()

    async def open(self) -> None:
        """Create the topic if it is missing, and read all that it holds. Idempotent.

        Raises:
            TopicExists: the topic has other settings, for instance a retention: then ids would
                change their meaning.
        """
        await self._transport.create_topic(self._topic, TopicConfig())
        await self._read_on()

    async def register(self, schema: Schema) -> int:
        """The id of a schema, after appending it unless an equal one is in the log.

        When several parties register one schema at once, all get the same id.

        Raises:
            UnknownSchema: the registry is full, see ``MAX_REGISTRY_BYTES``.
        """
        await self._read_on()
        try:
            return self._fold.id_of(schema)
        except UnknownSchema:
            value = schema.canonical_json().encode()
        record = Record(
            key=schema.subject.encode(),
            headers=(("fingerprint", schema.fingerprint.encode()),),
            value=value,
        )
        with doing(f"register a schema (topic {self._topic})"):
            await self._transport.append(self._topic, [record])
        # The append is visible, so one pass reads it and all that came before it.
        await self._read_on()
        return self._fold.id_of(schema)

    async def get(self, schema_id: int, *, timeout_s: float) -> Schema:
        """The schema of an id; waits for its record when it has not come yet.

        Returns at once, without reading, when the schema is known.

        Raises:
            UnknownSchema: its record did not come in time, or is not the first of a schema.
        """
        deadline = asyncio.get_running_loop().time() + timeout_s
        while True:
            try:
                return self._fold.get(schema_id)
            except UnknownSchema:
                if schema_id <= self._fold.next_offset:
                    raise  # the record that could give this id has been read
            await self._wait_for_more(schema_id, deadline, timeout_s)
            await self._read_on()

    def versions(self, subject: str) -> tuple[RegisteredSchema, ...]:
        """The versions of a subject that have been read so far, oldest first."""
        return self._fold.versions(subject)

    async def _wait_for_more(self, schema_id: int, deadline: float, timeout_s: float) -> None:
        remaining = deadline - asyncio.get_running_loop().time()
        offset = self._fold.next_offset
        if not await self._transport.wait(self._topic, offset, timeout_s=max(0.0, remaining)):
            raise UnknownSchema(
                f"schema id {schema_id}: expected its record at offset {schema_id - 1} of "
                f"{self._topic} within {timeout_s:g} s, found {offset} records; is the party that "
                "registered it on this transport?"
            )

    async def _read_on(self) -> None:
        """Fold everything up to the end that the log has now."""
        what = f"read the schemas (topic {self._topic}, offset {self._fold.next_offset})"
        async with self._reading:
            with doing(what):
                end = await self._transport.end_offset(self._topic)
                while self._fold.next_offset < end:
                    for record in await self._transport.read(self._topic, self._fold.next_offset):
                        self._fold.apply(record.offset, record.value)
