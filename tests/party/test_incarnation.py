"""Each start of a party has a number of its own, and only the newest may go on."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import pytest

from slstream.errors import Fenced
from slstream.frames.topics import incarnations_topic
from slstream.party.incarnation import Incarnation
from slstream.transport.connect import embedded_url, open_transport

TOPIC = incarnations_topic("small", "bob")


async def is_newest(incarnation: Incarnation) -> bool:
    try:
        await incarnation.require_newest()
    except Fenced:
        return False
    return True


def test_claims_at_once_get_numbers_of_their_own_and_one_is_the_newest(tmp_path: Path) -> None:
    async def main() -> None:
        url = embedded_url(tmp_path)
        async with await open_transport(url) as one, await open_transport(url) as two:
            claims = await asyncio.gather(
                *(Incarnation.claim(log, "small", "bob") for _ in range(10) for log in (one, two))
            )
            assert sorted(each.number for each in claims) == list(range(1, 21))
            passed = [each.number for each in claims if await is_newest(each)]
            assert passed == [20]

    asyncio.run(main())


def test_who_is_not_the_newest_any_more_is_told(tmp_path: Path) -> None:
    async def main() -> None:
        async with await open_transport(embedded_url(tmp_path)) as transport:
            first = await Incarnation.claim(transport, "small", "bob")
            await first.require_newest()
            await Incarnation.claim(transport, "small", "carol")
            await first.require_newest()
            second = await Incarnation.claim(transport, "small", "bob")
            await second.require_newest()
            with pytest.raises(Fenced) as caught:
                await first.require_newest()
            assert str(caught.value) == (
                f"another process of bob has started since (incarnation 2, this one is 1; topic "
                f"{TOPIC}) and has taken over; run only one"
            )
            (record, _) = await transport.read(TOPIC, 0)
            assert json.loads(record.value)["pid"] == os.getpid()

    asyncio.run(main())


def test_numbers_go_on_in_a_log_that_is_opened_again(tmp_path: Path) -> None:
    async def claimed() -> int:
        async with await open_transport(embedded_url(tmp_path)) as transport:
            return (await Incarnation.claim(transport, "small", "bob")).number

    assert [asyncio.run(claimed()) for _ in range(3)] == [1, 2, 3]
