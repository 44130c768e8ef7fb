from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import sleep

import pytest
import torch

from slstream.errors import LocalProtocolError
from slstream.party.compute import MOST_DEFERRED, ComputeThread


@asynccontextmanager
async def computing(threads: int = 1) -> AsyncIterator[ComputeThread]:
    compute = ComputeThread(threads)
    try:
        yield compute
    finally:
        compute.close()


def fail() -> None:
    raise ValueError("deferred")


def test_all_functions_run_in_one_thread_in_order() -> None:
    async def main() -> None:
        names, order = set(), []
        async with computing() as compute:
            for n in range(5):
                await compute.defer(lambda n=n: order.append(n))  # type: ignore[misc]
            for _ in range(3):
                names.add(await compute.call(lambda: threading.current_thread().name))
        assert order == [0, 1, 2, 3, 4]
        assert len(names) == 1
        assert names != {threading.current_thread().name}

    asyncio.run(main())


def test_the_thread_computes_with_its_own_number_of_threads() -> None:
    # A number set in another thread does not reach one that has run torch already.
    async def main() -> None:
        before = torch.get_num_threads()
        for threads in (1, 2):
            async with computing(threads) as compute:
                await compute.call(lambda: torch.ones(8, 8) @ torch.ones(8, 8))
                torch.set_num_threads(3)
                assert await compute.call(torch.get_num_threads) == threads
        torch.set_num_threads(before)

    asyncio.run(main())


def test_a_model_that_changes_the_number_of_threads_is_caught() -> None:
    async def main() -> None:
        async with computing(1) as compute:
            await compute.call(lambda: torch.set_num_threads(2))
            with pytest.raises(LocalProtocolError, match="computes with 2 threads; expected 1"):
                await compute.call(lambda: None)

    asyncio.run(main())


def test_nothing_runs_after_a_deferred_failure() -> None:
    async def main() -> None:
        ran = []
        async with computing() as compute:
            await compute.defer(fail)
            await compute.defer(lambda: ran.append("deferred"))
            for _ in range(2):
                with pytest.raises(ValueError, match="deferred"):
                    await compute.call(lambda: ran.append("called"))
            assert not ran
            await compute.forget()
            await compute.call(lambda: ran.append("after"))
            assert ran == ["after"]

    asyncio.run(main())


def test_a_failed_call_does_not_stop_later_ones() -> None:
    async def main() -> None:
        async with computing() as compute:
            with pytest.raises(ValueError, match="deferred"):
                await compute.call(fail)
            assert await compute.call(lambda: 5) == 5

    asyncio.run(main())


def test_deferring_waits_when_too_much_is_queued() -> None:
    async def main() -> None:
        go = threading.Event()
        async with computing() as compute:
            await compute.defer(lambda: None if go.wait(20) else fail())
            for _ in range(MOST_DEFERRED - 1):
                await asyncio.wait_for(compute.defer(lambda: None), 5)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(compute.defer(lambda: None), 0.05)
            go.set()
            await asyncio.wait_for(compute.defer(lambda: None), 5)
            await compute.call(lambda: None)

    asyncio.run(main())


def test_cancelling_a_call_does_not_block_the_loop() -> None:
    async def main() -> None:
        go = threading.Event()
        async with computing() as compute:
            await compute.defer(lambda: None if go.wait(20) else fail())
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(compute.call(lambda: None), 0.05)
            go.set()

    asyncio.run(asyncio.wait_for(main(), 5))


def test_busy_time_is_counted() -> None:
    async def main() -> None:
        async with computing() as compute:
            await compute.call(lambda: sleep(0.02))
            assert 0.02 <= compute.busy_s < 5
            await compute.forget()
            assert compute.busy_s == 0

    asyncio.run(main())
