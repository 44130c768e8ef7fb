from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import pytest

from slstream.audit.session_list import ListedSession, list_sessions
from slstream.errors import TransportError
from slstream.frames.header import FrameKind
from slstream.frames.topics import divergences_topic, link_topic, telemetry_topic
from slstream.party.telemetry import PartyState, Progress
from slstream.transport.connect import embedded_url, open_transport
from slstream.transport.contract import Record, StoredRecord
from slstream.transport.embedded.transport import EmbeddedTransport
from tests.audit.small_log import (
    SESSION,
    SmallLog,
    announce,
    close,
    fence,
    frames,
    open_log,
    resume,
)

UP, BACK = FrameKind.ACTIVATION, FrameKind.GRADIENT
STEPS = [(epoch, step) for epoch in (1, 2) for step in (1, 2, 3)]

Write = Callable[[SmallLog], Awaitable[None]]


def listed(
    folder: Path, *writes: Write, federation: str | None = None
) -> tuple[ListedSession, ...]:
    """Write a log, then list it as another process would."""

    async def main() -> tuple[ListedSession, ...]:
        async with await open_log(folder / "log") as log:
            for write in writes:
                await write(SmallLog(log))
        url = embedded_url(folder / "log")
        async with await open_transport(url, read_only=True) as log:
            return await list_sessions(log, federation=federation)

    return asyncio.run(main())


async def trained(log: SmallLog) -> None:
    await log.lobby(announce())
    await log.link("alice", "bob", frames(UP, STEPS))
    await log.link("bob", "alice", frames(BACK, STEPS[:-1]))


def only(sessions: Sequence[ListedSession]) -> ListedSession:
    (session,) = sessions
    return session


def test_an_open_session_is_unfinished(tmp_path: Path) -> None:
    session = only(listed(tmp_path, trained))
    assert (session.federation, session.session) == ("credit", SESSION)
    assert (session.state, session.reason) == ("unfinished", "")
    assert session.parties == ("bob", "alice")  # the label party first
    assert (session.epochs, session.epoch, session.steps) == (4, 2, 5)
    assert session.frames == 11
    assert session.wire_bytes == sum(t.wire_bytes for t in session.links) > 11 * 100
    assert session.incarnations == {"bob": 1, "alice": 1}
    assert (session.problems, session.divergences) == ((), {})
    assert session.started_ms is not None
    assert session.last_ms is not None
    assert session.started_ms <= session.last_ms


@pytest.mark.parametrize("outcome", ["finished", "stopped early", "failed", "abandoned"])
def test_a_closed_session_has_its_outcome(outcome: str, tmp_path: Path) -> None:
    async def end(log: SmallLog) -> None:
        await log.lobby(close(outcome, reason="why"))  # type: ignore[arg-type]

    session = only(listed(tmp_path, trained, end))
    assert (session.state, session.reason) == (outcome, "why")


def said(state: PartyState, session: str = SESSION, party: str = "bob") -> Write:
    async def say(log: SmallLog) -> None:
        event = Progress(party=party, session=session, state=state)
        await log.append(telemetry_topic("credit", party), [event.to_json()])

    return say


def test_an_open_session_whose_label_party_was_interrupted(tmp_path: Path) -> None:
    interrupted = said(PartyState.INTERRUPTED)
    assert only(listed(tmp_path, trained, interrupted)).state == "interrupted"
    assert only(listed(tmp_path, said(PartyState.TRAINING))).state == "unfinished"


@pytest.mark.parametrize(
    "last",
    [
        said(PartyState.INTERRUPTED, session="another"),
        said(PartyState.INTERRUPTED, party="alice"),
        said(PartyState.FAILED),
    ],
)
def test_no_other_event_means_interrupted(last: Write, tmp_path: Path) -> None:
    assert only(listed(tmp_path, trained, last)).state == "unfinished"


def test_telemetry_that_is_none_is_skipped(tmp_path: Path) -> None:
    async def noise(log: SmallLog) -> None:
        await log.append(telemetry_topic("credit", "bob"), [b"{"])

    assert only(listed(tmp_path, trained, noise)).state == "unfinished"


def test_a_fenced_label_party_cannot_close_a_session(tmp_path: Path) -> None:
    async def end(log: SmallLog) -> None:
        await log.lobby(resume(2), close("failed", incarnation=1))

    assert only(listed(tmp_path, trained, end)).state == "unfinished"

    async def last(log: SmallLog) -> None:
        await log.lobby(close("finished", incarnation=2), close("failed", incarnation=2))

    assert only(listed(tmp_path, last)).state == "finished"


def test_incarnations_of_a_label_party_go_on_from_session_to_session(tmp_path: Path) -> None:
    async def write(log: SmallLog) -> None:
        await log.lobby(announce("first", incarnation=2), announce("second", incarnation=5))
        await log.lobby(close("failed", session="first", incarnation=2))
        await log.lobby(close("finished", session="second", incarnation=5))

    assert {s.session: s.state for s in listed(tmp_path, write)} == {
        "first": "unfinished",
        "second": "finished",
    }


def test_counts_restarts_and_what_they_left(tmp_path: Path) -> None:
    async def restart(log: SmallLog) -> None:
        again = frames(BACK, STEPS[4:], incarnation=3, sequence=4)
        late = frames(BACK, STEPS[5:], incarnation=1, sequence=5)
        await log.link("bob", "alice", [fence(3), *again, *late])
        await log.link("bob", "carol", frames(BACK, STEPS[:1], incarnation=4))

    session = only(listed(tmp_path, trained, restart))
    assert session.incarnations == {"bob": 3, "alice": 1, "carol": 0}
    assert (session.duplicates, session.fenced, session.abandoned) == (1, 1, 0)
    assert session.steps == 6


def test_counts_divergences_of_each_party(tmp_path: Path) -> None:
    async def diverge(log: SmallLog) -> None:
        named = [json.dumps({"session": name}).encode() for name in (SESSION, SESSION, "other")]
        noise = [b"", b"[]", b"{}", b'{"session": 3}', b"[" * 100_000]
        await log.append(divergences_topic("credit", "alice"), [*named, *noise])

    assert only(listed(tmp_path, trained, diverge)).divergences == {"alice": 2}


def test_hostile_bytes_in_a_link_mark_its_session_only(tmp_path: Path) -> None:
    async def others(log: SmallLog) -> None:
        await log.lobby(announce("second"))
        await log.link("bob", "alice", frames(BACK, STEPS), "second")
        topic = link_topic("credit", "bob", "alice", SESSION)
        await log.log.append(topic, [Record(value=b"\0\xff" * 40)])

    first, second = listed(tmp_path, trained, others)
    (problem,) = first.problems
    assert problem.startswith(f"topic credit.bob-to-alice.{SESSION}, offset 5: ")
    assert (first.state, first.steps) == ("unfinished", 5)
    assert (second.problems, second.steps) == ((), 6)


def test_hostile_records_in_the_lobby_are_skipped(tmp_path: Path) -> None:
    async def noise(log: SmallLog) -> None:
        await log.lobby(
            b"",
            b"\xff",
            b"[" * 100_000,
            announce("a", federation="other"),
            announce("A.b"),
            announce("b", label_party="Bob\x1b[2J"),
            announce(SESSION, label_party="mallory", agreed={"training": []}),
            close("failed", session="never-announced"),
        )

    session = only(listed(tmp_path, trained, noise))
    assert (session.parties, session.epochs, session.state) == (("bob", "alice"), 4, "unfinished")


@pytest.mark.parametrize("agreed", [{}, {"training": {}}, {"training": {"epochs": "4"}}])
def test_planned_epochs_may_be_unknown(agreed: dict[str, object], tmp_path: Path) -> None:
    async def write(log: SmallLog) -> None:
        await log.lobby(announce(agreed=agreed))

    session = only(listed(tmp_path, write))
    assert (session.epochs, session.epoch, session.steps, session.frames) == (None, 0, 0, 0)
    assert session.parties == ("bob",)


def test_links_that_the_lobby_does_not_name_are_listed(tmp_path: Path) -> None:
    async def write(log: SmallLog) -> None:
        await log.link("alice", "bob", [])

    session = only(listed(tmp_path, write))
    assert (session.state, session.started_ms, session.last_ms) == ("unannounced", None, None)
    assert session.parties == ("alice", "bob")


def test_several_federations_in_one_log(tmp_path: Path) -> None:
    async def second(log: SmallLog) -> None:
        other = SmallLog(log.log, "credit2")
        await other.lobby(announce("x", federation="credit2"))
        await other.link("bob", "alice", frames(BACK, STEPS), "x")

    found = listed(tmp_path, trained, second)
    assert [(s.federation, s.session) for s in found] == [("credit", SESSION), ("credit2", "x")]
    assert [s.federation for s in listed(tmp_path, federation="credit")] == ["credit"]


def test_sessions_come_in_the_order_of_their_start(tmp_path: Path) -> None:
    async def write(log: SmallLog) -> None:
        for name in ("z", "a", "m"):
            await log.lobby(announce(name))
            await asyncio.sleep(0.002)  # timestamps are milliseconds

    assert [s.session for s in listed(tmp_path, write)] == ["z", "a", "m"]


def test_a_log_that_grows_meanwhile_ends_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = EmbeddedTransport.read
    grown = 0

    async def main() -> ListedSession:
        async with await open_log(tmp_path / "log") as log:
            await trained(SmallLog(log))

            async def read_and_grow(
                transport: EmbeddedTransport, topic: str, offset: int, **more: int
            ) -> Sequence[StoredRecord]:
                nonlocal grown
                if "-to-" in topic and grown < 50:
                    grown += 1
                    await log.append(topic, [Record(value=b"more")])
                return await read(transport, topic, offset, **more)

            monkeypatch.setattr(EmbeddedTransport, "read", read_and_grow)
            return only(await list_sessions(log))

    session = asyncio.run(main())
    assert (session.frames, session.problems) == (11, ())
    assert grown == 2  # one read of each link was enough


def test_a_link_that_is_deleted_meanwhile_is_a_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = EmbeddedTransport.read

    async def main() -> ListedSession:
        async with await open_log(tmp_path / "log") as log:
            await trained(SmallLog(log))

            async def delete_first(
                transport: EmbeddedTransport, topic: str, offset: int, **more: int
            ) -> Sequence[StoredRecord]:
                if "bob-to-" in topic:
                    await transport.delete_topic(topic)
                return await read(transport, topic, offset, **more)

            monkeypatch.setattr(EmbeddedTransport, "read", delete_first)
            return only(await list_sessions(log))

    session = asyncio.run(main())
    assert len(session.problems) == 1
    assert session.frames == 6


def test_an_unreadable_log_is_an_error(tmp_path: Path) -> None:
    async def main() -> None:
        async with await open_log(tmp_path / "log") as log:
            await trained(SmallLog(log))
        await list_sessions(log)

    with pytest.raises(TransportError):
        asyncio.run(main())
