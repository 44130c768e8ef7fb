from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from slstream.errors import PeerTimeout
from slstream.frames.topics import lobby_topic
from slstream.party.lobby import Lobby
from slstream.protocol.messages import Announce, Close, Message, Resume, encode_message
from slstream.transport.connect import embedded_url, open_transport
from slstream.transport.contract import Record, Transport

TOPIC = lobby_topic("small")


def announce(session: str = "s1", **changes: Any) -> Announce:
    fields: dict[str, Any] = {
        "session": session,
        "federation": "small",
        "label_party": "alice",
        "agreed": {"seed": 3},
        "digest": "0" * 64,
        "id_key": "0" * 32,
        "environment": {},
        "incarnation": 1,
    }
    return Announce(**{**fields, **changes})


@asynccontextmanager
async def lobby_of(path: Path) -> AsyncIterator[tuple[Lobby, Transport]]:
    async with await open_transport(embedded_url(path)) as transport:
        lobby = Lobby(transport, "small", "alice")
        await lobby.open()
        yield lobby, transport


def close(session: str, incarnation: int = 1, **changes: Any) -> Close:
    fields: dict[str, Any] = {"outcome": "finished", **changes}
    return Close(session=session, incarnation=incarnation, **fields)


def newest(lobby: Lobby) -> Callable[[], Announce | None]:
    return lambda: next(reversed(lobby.unfinished), None)


async def ignore(waited_s: float) -> None:
    del waited_s


def test_an_announcement_is_open_until_it_is_closed(tmp_path: Path) -> None:
    async def main() -> None:
        async with lobby_of(tmp_path) as (lobby, transport):
            await lobby.tell(announce("s1"))
            await lobby.tell(announce("s2"))
            other = Lobby(transport, "small", "alice")
            await other.open()
            assert [each.session for each in other.unfinished] == ["s1", "s2"]
            await lobby.tell(close("s1", outcome="failed", reason="why"))
            await other.refresh()
            assert [each.session for each in other.unfinished] == ["s2"]
            closed = other.closed("s1")
            assert closed is not None
            assert (closed.outcome, closed.reason) == ("failed", "why")
            assert other.closed("s2") is None

    asyncio.run(main())


def test_what_is_not_for_this_federation_is_skipped(tmp_path: Path) -> None:
    hostile = [
        b"",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"type": "announce"}',
        encode_message(announce("../up")),
        encode_message(announce("UPPER")),
        encode_message(announce("bob-to-carol")),
        encode_message(announce(federation="other")),
        encode_message(announce(label_party="mallory")),
    ]

    async def main() -> None:
        async with lobby_of(tmp_path) as (lobby, transport):
            await transport.append(TOPIC, [Record(value=value) for value in hostile])
            await lobby.tell(announce("good"))
            found = await lobby.wait(newest(lobby), timeout_s=5, on_tick=ignore)
            assert found.session == "good"
            assert len(lobby.unfinished) == 1

    asyncio.run(main())


def test_a_session_that_was_closed_never_opens_again(tmp_path: Path) -> None:
    async def main() -> None:
        async with lobby_of(tmp_path) as (lobby, _):
            await lobby.tell(announce("s1"))
            await lobby.tell(close("s1"))
            await lobby.tell(announce("s1", incarnation=2))
            await lobby.refresh()
            assert not lobby.unfinished
            assert lobby.closed("s1") is not None
            assert lobby.sessions == ("s1",)

    asyncio.run(main())


def test_every_look_may_end_the_wait(tmp_path: Path) -> None:
    async def main() -> None:
        async with lobby_of(tmp_path) as (lobby, transport):
            await lobby.tell(announce("s1"))

            def choose() -> Announce | None:
                return None if lobby.closed("s1") is None else lobby.announced("s1")

            waiting = asyncio.create_task(lobby.wait(choose, timeout_s=20, on_tick=ignore))
            await asyncio.sleep(0.05)
            assert not waiting.done()
            await Lobby(transport, "small", "alice").tell(close("s1"))
            assert (await asyncio.wait_for(waiting, 0.9)).session == "s1"

    asyncio.run(main())


def test_what_came_while_the_process_was_stopped_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with lobby_of(tmp_path) as (lobby, transport):
            other = Lobby(transport, "small", "alice")

            async def stopped(*_: object, **__: object) -> bool:
                await other.tell(announce("late"))
                await asyncio.sleep(1.1)  # Longer than a tick, and than all of the patience.
                return True

            monkeypatch.setattr(transport, "wait", stopped)
            found = await lobby.wait(newest(lobby), timeout_s=1, on_tick=ignore)
            assert found.session == "late"

    asyncio.run(main())


def test_waiting_wakes_on_an_announcement(tmp_path: Path) -> None:
    async def main() -> None:
        async with lobby_of(tmp_path) as (lobby, transport):
            waiting = asyncio.create_task(lobby.wait(newest(lobby), timeout_s=20, on_tick=ignore))
            await asyncio.sleep(0.05)
            other = Lobby(transport, "small", "alice")
            await other.tell(announce("late"))
            assert (await asyncio.wait_for(waiting, 0.9)).session == "late"

    asyncio.run(main())


def test_waiting_in_vain_names_party_topic_and_offset(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "slstream")
    ticks: list[float] = []

    async def on_tick(waited_s: float) -> None:
        ticks.append(waited_s)

    async def main() -> None:
        async with lobby_of(tmp_path) as (lobby, transport):

            async def disturb() -> None:
                while True:
                    await transport.append(TOPIC, [Record(value=b"noise")])
                    await asyncio.sleep(0.2)

            disturbing = asyncio.create_task(disturb())
            try:
                with pytest.raises(PeerTimeout) as caught:
                    await lobby.wait(newest(lobby), timeout_s=1.5, on_tick=on_tick)
            finally:
                disturbing.cancel()
            message = str(caught.value)
            assert message.startswith("alice announced no session for 2 s (topic small.lobby, off")

    asyncio.run(main())
    assert [round(tick) for tick in ticks] == [1]
    (record,) = [r for r in caplog.records if r.getMessage() == "waiting"]
    assert vars(record)["topic"] == "small.lobby"


def fold(path: Path, *messages: Message) -> Lobby:
    """What a lobby makes of these messages."""

    async def main() -> Lobby:
        async with lobby_of(path) as (lobby, transport):
            values = [Record(value=encode_message(message)) for message in messages]
            await transport.append(TOPIC, values)
            await lobby.refresh()
            return lobby

    return asyncio.run(main())


def sessions(lobby: Lobby) -> list[str]:
    return [each.session for each in lobby.unfinished]


def test_a_resumed_session_cannot_be_closed_by_a_process_that_is_fenced(tmp_path: Path) -> None:
    resume = Resume(session="s1", incarnation=2)
    late = close("s1", outcome="failed", reason="it was interrupted")
    lobby = fold(tmp_path, announce(), resume, late)
    assert sessions(lobby) == ["s1"]
    assert lobby.closed("s1") is None
    lobby = fold(tmp_path / "after", announce(), late, resume)
    assert sessions(lobby) == [], "who closes it before is still the newest"


def test_the_process_that_resumed_a_session_closes_it(tmp_path: Path) -> None:
    resume = Resume(session="s1", incarnation=2)
    lobby = fold(tmp_path, announce(), resume, close("s1", incarnation=2, reason="done"))
    closed = lobby.closed("s1")
    assert closed is not None
    assert (sessions(lobby), closed.reason) == ([], "done")


def test_a_fenced_process_can_announce_nothing(tmp_path: Path) -> None:
    """It was stopped before it could; everyone would follow it into a session without an end."""
    resume = Resume(session="s1", incarnation=3)
    lobby = fold(tmp_path, announce("s1"), resume, announce("s2", incarnation=2))
    assert sessions(lobby) == ["s1"]
    assert lobby.announced("s2") is None
    assert lobby.newest is not None
    assert lobby.newest.session == "s1"


def test_a_newer_process_that_announces_fences_the_older_one(tmp_path: Path) -> None:
    lobby = fold(
        tmp_path,
        announce("s1"),
        announce("s2", incarnation=2),
        close("s2", incarnation=1, outcome="failed"),
        close("s1", incarnation=2, outcome="abandoned"),
    )
    assert sessions(lobby) == ["s2"]


def test_what_is_not_for_this_federation_fences_nobody(tmp_path: Path) -> None:
    lobby = fold(
        tmp_path,
        announce("s1", federation="other", incarnation=9),
        announce("s2", label_party="mallory", incarnation=9),
        announce("UPPER", incarnation=9),
        announce("s3"),
    )
    assert sessions(lobby) == ["s3"]


def test_the_first_close_counts(tmp_path: Path) -> None:
    lobby = fold(tmp_path, announce(), close("s1"), close("s1", incarnation=2, outcome="abandoned"))
    closed = lobby.closed("s1")
    assert closed is not None
    assert closed.outcome == "finished"


def test_how_a_session_ended_is_waited_for(tmp_path: Path) -> None:
    async def main() -> None:
        async with lobby_of(tmp_path) as (lobby, transport):
            await lobby.tell(announce("s1"))
            assert await lobby.wait_closed("s1", timeout_s=0.05) is None
            waiting = asyncio.create_task(lobby.wait_closed("s1", timeout_s=20))
            await asyncio.sleep(0.05)
            other = Lobby(transport, "small", "alice")
            await other.tell(announce("s2"))
            await other.tell(close("s1", outcome="failed"))
            closed = await asyncio.wait_for(waiting, 0.9)
            assert closed is not None
            assert closed.outcome == "failed"

    asyncio.run(main())
