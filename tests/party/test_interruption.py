"""Signals that ask to end reach the event loop, and afterwards whoever had them before."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator

import pytest

from slstream.party.interruption import interruptible

ALL = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in ALL}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", ALL)
def test_a_signal_is_told_and_its_handler_comes_back(number: signal.Signals) -> None:
    signal.signal(number, signal.default_int_handler)
    told: list[signal.Signals] = []

    async def main() -> None:
        came = asyncio.Event()

        def interrupt(which: signal.Signals) -> None:
            told.append(which)
            came.set()

        with interruptible(interrupt):
            os.kill(os.getpid(), number)
            async with asyncio.timeout(10):
                await came.wait()

    asyncio.run(main())
    assert told == [number]
    assert signal.getsignal(number) is signal.default_int_handler


def test_what_is_ignored_stays_ignored() -> None:
    """As with ``nohup``."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    told: list[signal.Signals] = []

    async def main() -> None:
        with interruptible(told.append):
            os.kill(os.getpid(), signal.SIGHUP)
            await asyncio.sleep(0.1)

    asyncio.run(main())
    assert told == []
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN


def test_two_in_one_event_loop_leave_it_as_it_was() -> None:
    signal.signal(signal.SIGTERM, signal.default_int_handler)

    async def main() -> None:
        first, second = interruptible(lambda _: None), interruptible(lambda _: None)
        with first:
            second.__enter__()
        second.__exit__(None, None, None)

    asyncio.run(main())
    assert signal.getsignal(signal.SIGTERM) is signal.default_int_handler


def test_in_another_thread_nothing_is_handled() -> None:
    async def main() -> None:
        with interruptible(lambda _: None):
            pass

    async def outer() -> None:
        await asyncio.to_thread(lambda: asyncio.run(main()))

    asyncio.run(outer())
