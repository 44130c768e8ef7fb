from __future__ import annotations

import asyncio

from slstream.transport.embedded.admission import (
    MAX_APPENDS_IN_FLIGHT,
    MAX_BYTES_IN_FLIGHT,
    Admission,
    Append,
)
from slstream.transport.embedded.offsets import AppendRequest
from tests.transport.logs import run


def an_append(size: int) -> Append:
    return Append(
        request=AppendRequest(topic="t", partition=0, records=()),
        size=size,
        future=asyncio.get_running_loop().create_future(),
    )


def test_what_does_not_fit_waits_and_so_does_what_comes_after_it() -> None:
    async def body() -> None:
        through: list[Append] = []
        admission = Admission(through.append)
        half = MAX_BYTES_IN_FLIGHT // 2
        appends = [an_append(size) for size in (half, half, 2 * MAX_BYTES_IN_FLIGHT, 1, 1)]
        for append in appends:
            admission.submit(append)
        assert through == appends[:2]
        admission.settle(appends[0], 0)
        assert through == appends[:2]
        admission.settle(appends[1], 1)
        assert through == appends[:3], "what is above the limit goes through alone"
        admission.settle(appends[2], 2)
        assert through == appends
        assert [append.future.result() for append in appends[:3]] == [0, 1, 2]

    run(body())


def test_the_number_in_flight_is_bounded() -> None:
    async def body() -> None:
        through: list[Append] = []
        admission = Admission(through.append)
        for _ in range(MAX_APPENDS_IN_FLIGHT + 5):
            admission.submit(an_append(1))
        assert len(through) == MAX_APPENDS_IN_FLIGHT

    run(body())


def test_a_cancelled_append_that_waited_is_dropped() -> None:
    async def body() -> None:
        through: list[Append] = []
        admission = Admission(through.append)
        first, cancelled, last = (an_append(MAX_BYTES_IN_FLIGHT) for _ in range(3))
        for append in (first, cancelled, last):
            admission.submit(append)
        cancelled.future.cancel()
        admission.settle(first, 0)
        assert through == [first, last]

    run(body())


def test_failure_answers_all_once() -> None:
    async def body() -> None:
        admission = Admission(lambda _: None)
        appends = [an_append(MAX_BYTES_IN_FLIGHT) for _ in range(2)]
        for append in appends:
            admission.submit(append)
        admission.fail(lambda: OSError("gone"))
        admission.settle(appends[0], 0)
        assert all(isinstance(append.future.exception(), OSError) for append in appends)

    run(body())
