from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import pytest

from slstream.errors import TopicExists, UnknownSchema
from slstream.party.registry_log import RegistryLog
from slstream.schemas.document import ContentSchema, Schema, SchemaKind, TensorSchema
from slstream.transport.connect import embedded_url, open_transport
from slstream.transport.contract import Record, TopicConfig, Transport

TOPIC = "credit.schemas"
CONTROL = ContentSchema(kind=SchemaKind.CONTROL)
CUT = TensorSchema.build(
    kind=SchemaKind.ACTIVATION, tensor="cut", row_shape=(64,), codec=[{"id": "raw32"}]
)


def run(path: Path, scenario: Callable[[Transport], Awaitable[None]]) -> None:
    async def main() -> None:
        async with await open_transport(embedded_url(path)) as transport:
            await scenario(transport)

    asyncio.run(main())


def record(schema: Schema) -> Record:
    return Record(value=schema.canonical_json().encode())


def test_registers_once_and_gives_the_same_ids_to_all(tmp_path: Path) -> None:
    async def scenario(transport: Transport) -> None:
        alice, bob = RegistryLog(transport, "credit"), RegistryLog(transport, "credit")
        await alice.open()
        await bob.open()
        assert await alice.register(CUT) == 1
        assert await bob.register(CONTROL) == 2
        assert await bob.register(CUT) == 1
        assert await alice.register(CONTROL) == 2
        assert await transport.end_offset(TOPIC) == 2
        assert await alice.get(2, timeout_s=0) == CONTROL
        assert [v.schema_id for v in bob.versions("activation.cut")] == [1]
        stored = (await transport.read(TOPIC, 0))[0]
        assert stored.key == b"activation.cut"
        assert stored.headers == (("fingerprint", CUT.fingerprint.encode()),)
        late = RegistryLog(transport, "credit")
        await late.open()
        assert await late.get(1, timeout_s=0) == CUT

    run(tmp_path, scenario)


def test_the_earlier_of_two_appends_at_once_gives_the_id(tmp_path: Path) -> None:
    async def scenario(transport: Transport) -> None:
        log = RegistryLog(transport, "credit")
        await log.open()
        append = transport.append

        async def overtaken(topic: str, records: Sequence[Record], *, partition: int = 0) -> int:
            await append(topic, [record(CONTROL), record(CUT)], partition=partition)
            return await append(topic, records, partition=partition)

        transport.append = overtaken  # type: ignore[method-assign]
        assert await log.register(CUT) == 2
        assert await transport.end_offset(TOPIC) == 3

    run(tmp_path, scenario)


def test_many_tasks_may_register_at_once(tmp_path: Path) -> None:
    async def scenario(transport: Transport) -> None:
        log = RegistryLog(transport, "credit")
        await log.open()
        ids = await asyncio.gather(*(log.register(CUT) for _ in range(5)), log.register(CONTROL))
        assert len(set(ids[:5])) == 1
        assert ids[5] != ids[0]
        assert await log.get(ids[0], timeout_s=0) == CUT
        assert await log.get(ids[5], timeout_s=0) == CONTROL

    run(tmp_path, scenario)


def test_get_waits_for_the_record(tmp_path: Path) -> None:
    async def scenario(transport: Transport) -> None:
        alice, bob = RegistryLog(transport, "credit"), RegistryLog(transport, "credit")
        await alice.open()
        await bob.open()
        waiting = asyncio.create_task(bob.get(2, timeout_s=10))
        await alice.register(CONTROL)
        await asyncio.sleep(0)
        assert not waiting.done()
        await alice.register(CUT)
        assert await waiting == CUT

    run(tmp_path, scenario)


def test_get_gives_up_at_its_deadline(tmp_path: Path) -> None:
    async def scenario(transport: Transport) -> None:
        log = RegistryLog(transport, "credit")
        await log.open()
        wait, timeouts = transport.wait, []

        async def noted(
            topic: str, offset: int, *, partition: int = 0, timeout_s: float | None = None
        ) -> bool:
            timeouts.append(timeout_s or 0.0)
            if offset == 0:
                await transport.append(TOPIC, [record(CUT)])
            return await wait(topic, offset, partition=partition, timeout_s=timeout_s)

        transport.wait = noted  # type: ignore[method-assign]
        with pytest.raises(UnknownSchema) as caught:
            await log.get(9, timeout_s=0.05)
        assert str(caught.value) == (
            "schema id 9: expected its record at offset 8 of credit.schemas within 0.05 s, found "
            "1 records; is the party that registered it on this transport?"
        )
        # The deadline is one for all waits.
        assert 0.05 >= timeouts[0] > timeouts[1] >= 0

    run(tmp_path, scenario)


def test_get_does_not_wait_for_what_can_never_come(tmp_path: Path) -> None:
    async def scenario(transport: Transport) -> None:
        log = RegistryLog(transport, "credit")
        await log.open()
        await transport.append(TOPIC, [record(CUT), Record(value=b"garbage"), record(CUT)])
        assert await log.get(1, timeout_s=10) == CUT
        for schema_id in (0, 2, 3):
            with pytest.raises(UnknownSchema, match=f"schema id {schema_id}: expected one of"):
                await asyncio.wait_for(log.get(schema_id, timeout_s=3600), timeout=10)

    run(tmp_path, scenario)


def test_reads_a_long_log(tmp_path: Path) -> None:
    async def scenario(transport: Transport) -> None:
        await transport.create_topic(TOPIC, TopicConfig())
        await transport.append(TOPIC, [Record(value=b"garbage")] * 5000 + [record(CUT)])
        log = RegistryLog(transport, "credit")
        await log.open()
        assert await log.register(CUT) == 5001

    run(tmp_path, scenario)


def test_refuses_a_log_that_forgets(tmp_path: Path) -> None:
    async def scenario(transport: Transport) -> None:
        await transport.create_topic(TOPIC, TopicConfig(retention_ms=1000))
        with pytest.raises(TopicExists, match="retention_ms"):
            await RegistryLog(transport, "credit").open()

    run(tmp_path, scenario)


def test_survives_a_restart(tmp_path: Path) -> None:
    async def first(transport: Transport) -> None:
        log = RegistryLog(transport, "credit")
        await log.open()
        assert await log.register(CUT) == 1

    async def second(transport: Transport) -> None:
        log = RegistryLog(transport, "credit")
        await log.open()
        assert await log.get(1, timeout_s=0) == CUT
        assert await log.register(CUT) == 1

    run(tmp_path, first)
    run(tmp_path, second)
