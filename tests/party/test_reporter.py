from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from time import monotonic

import pytest

from slstream.errors import TransportBroken
from slstream.frames.header import FrameKind
from slstream.frames.topics import telemetry_topic
from slstream.party import reporter as reporter_module
from slstream.party.ledger import Ledger
from slstream.party.reporter import INTERVAL_S, Reporter
from slstream.party.telemetry import PartyState, Progress
from slstream.transport.connect import embedded_url, open_transport
from slstream.transport.contract import Transport

TOPIC = telemetry_topic("small", "bob")


def report(
    path: Path, body: Callable[[Reporter, Transport, Ledger], object]
) -> tuple[list[Progress], list[Progress]]:
    """What a listener and the log got of what ``body`` reports."""
    heard: list[Progress] = []

    async def main() -> list[Progress]:
        async with await open_transport(embedded_url(path)) as transport:
            ledger = Ledger("bob")
            reporter = Reporter(transport, "small", "bob", ledger, heard.append)
            running = asyncio.create_task(reporter.run())
            outcome = body(reporter, transport, ledger)
            if asyncio.iscoroutine(outcome):
                await outcome
            reporter.close()
            await asyncio.wait_for(running, 20)
            if TOPIC not in await transport.topics():
                return []
            return [Progress.from_json(r.value) for r in await transport.read(TOPIC, 0)]

    logged = asyncio.run(main())
    return heard, logged


def test_lasting_events_are_all_sent_and_of_the_steps_the_latest(tmp_path: Path) -> None:
    def body(reporter: Reporter, _: Transport, __: Ledger) -> None:
        for epoch in (1, 2):
            for step in range(100):
                reporter.update(epoch=epoch, step=step)
            reporter.update(lasting=True, metrics={"auc": epoch / 10})
        reporter.update(lasting=True, state=PartyState.FINISHED)

    heard, logged = report(tmp_path, body)
    assert heard == logged
    assert [(e.epoch, e.step, e.metrics) for e in logged] == [
        (1, 99, {}),
        (1, 99, {"auc": 0.1}),
        (2, 99, {"auc": 0.1}),
        (2, 99, {"auc": 0.2}),
        (2, 99, {"auc": 0.2}),
    ]
    assert logged[-1].state is PartyState.FINISHED


def test_at_most_ten_events_a_second(tmp_path: Path) -> None:
    async def body(reporter: Reporter, _: Transport, __: Ledger) -> None:
        start = monotonic()
        while monotonic() - start < 4 * INTERVAL_S:
            reporter.update(step=1)
            await asyncio.sleep(0.001)

    _, logged = report(tmp_path, body)
    assert 2 <= len(logged) <= 7


def test_a_log_that_hangs_for_a_while_does_not_end_the_reports(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reporter_module, "_SEND_TIMEOUT_S", 0.05)
    hanging = asyncio.Event()

    async def body(reporter: Reporter, transport: Transport, _: Ledger) -> None:
        original = transport.append

        async def hang(*_: object, **__: object) -> int:
            hanging.set()
            await asyncio.sleep(3600)
            return 0

        monkeypatch.setattr(transport, "append", hang)
        reporter.update(step=1)
        await hanging.wait()
        monkeypatch.setattr(transport, "append", original)
        await asyncio.sleep(4 * INTERVAL_S)
        reporter.update(lasting=True, state=PartyState.FINISHED)
        await asyncio.sleep(2 * INTERVAL_S)

    _, logged = report(tmp_path, body)
    assert [event.state for event in logged] == [PartyState.FINISHED]


def test_events_carry_the_bytes_of_the_ledger(tmp_path: Path) -> None:
    def body(reporter: Reporter, _: Transport, ledger: Ledger) -> None:
        ledger.count("alice", FrameKind.ACTIVATION, "c", raw_bytes=70, wire_bytes=7)
        reporter.update(step=1)

    _, logged = report(tmp_path, body)
    assert (logged[-1].raw_bytes, logged[-1].wire_bytes) == (70, 7)


def test_a_broken_log_ends_reporting_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def body(reporter: Reporter, transport: Transport, _: Ledger) -> None:
        async def broken(*_: object, **__: object) -> int:
            raise TransportBroken("no space")

        monkeypatch.setattr(transport, "append", broken)
        reporter.update(step=1)
        await asyncio.sleep(0.3)
        reporter.update(step=2)

    heard, logged = report(tmp_path, body)
    assert [e.step for e in heard] == [1]
    assert logged == []


def test_a_log_that_hangs_does_not_hold_up_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("slstream.party.reporter._SEND_TIMEOUT_S", 0.2)

    async def body(reporter: Reporter, transport: Transport, _: Ledger) -> None:
        async def hanging(*_: object, **__: object) -> int:
            await asyncio.sleep(1000)
            return 0

        monkeypatch.setattr(transport, "append", hanging)
        reporter.update(lasting=True, step=1)

    start = monotonic()
    report(tmp_path, body)
    assert monotonic() - start < 10


def test_an_end_while_a_send_is_being_given_up_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reporter_module, "_SEND_TIMEOUT_S", 0.1)

    async def body(reporter: Reporter, transport: Transport, _: Ledger) -> None:
        given_up = asyncio.Event()

        async def slow_to_end(*_: object, **__: object) -> None:
            try:
                await asyncio.sleep(3600)
            finally:
                given_up.set()
                await asyncio.sleep(0.5)

        monkeypatch.setattr(transport, "append", slow_to_end)
        reporter.update(step=1)
        await asyncio.wait_for(given_up.wait(), 10)

    heard, logged = report(tmp_path, body)
    assert [event.step for event in heard] == [1]
    assert logged == []
