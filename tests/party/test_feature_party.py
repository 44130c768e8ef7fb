"""How a feature party finds its session."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from slstream.errors import (
    DataError,
    Fenced,
    ModelError,
    RemoteProtocolError,
    SessionAborted,
    SessionRefused,
    TransportError,
)
from slstream.frames.topics import link_topic, lobby_topic
from slstream.frames.wire_size import wire_size
from slstream.party.label_party import lead
from slstream.protocol.messages import Announce, Close, Message, encode_message
from slstream.topology import Topology
from slstream.transport.connect import embedded_url, open_transport
from slstream.transport.contract import Record, Transport
from tests.party.small_session import Outcome, run_all, summary_of, take_part, topology

LOBBY = lobby_topic("small")


def stale(federation: Topology, session: str = "stale-1", **changes: Any) -> Announce:
    fields: dict[str, Any] = {
        "session": session,
        "federation": "small",
        "label_party": "alice",
        "agreed": federation.agreed(),
        "digest": federation.digest(),
        "id_key": "0" * 32,
        "environment": {},
        "incarnation": 1,
    }
    return Announce(**{**fields, **changes})


async def post(transport: Transport, *messages: Message) -> None:
    await transport.create_topic(LOBBY)
    await transport.append(LOBBY, [Record(value=encode_message(m)) for m in messages])


async def has_records(transport: Transport, topic: str) -> None:
    """Return once a topic holds something."""
    await transport.create_topic(topic)
    assert await transport.wait(topic, 0, timeout_s=20)


def test_a_stale_session_is_left_for_the_one_that_follows(tmp_path: Path) -> None:
    """Its label party was killed; bob starts first, then a new label party."""
    federation = topology(tmp_path)
    log = embedded_url(tmp_path / "run" / "log")

    async def main() -> tuple[Outcome, Outcome, list[Any]]:
        async with await open_transport(log) as transport:
            await post(transport, stale(federation, digest="0" * 64))
            bob = asyncio.create_task(take_part("bob", federation, tmp_path / "run"))
            to_stale = link_topic("small", "bob", "alice", "stale-1")
            await has_records(transport, to_stale)
            alice = asyncio.create_task(
                take_part("alice", federation, tmp_path / "run", begin_new=True)
            )
            ends = await alice, await bob
            assert await transport.end_offset(to_stale) == 2  # join, ids, and no last word
            summary = summary_of(ends[1])
            to_new = link_topic("small", "bob", "alice", summary.session)
            return *ends, list(await transport.read(to_new, 0))

    alice, bob, records = asyncio.run(asyncio.wait_for(main(), 40))
    summary = summary_of(bob)
    assert summary.session == summary_of(alice).session != "stale-1"
    # What was sent to the stale session is not counted for the new one.
    assert sum(entry.frames for entry in summary.traffic) == len(records)
    assert summary.wire_bytes == sum(map(wire_size, records))
    spent = summary.time["bob"]
    assert spent.waiting_s <= spent.total_s


def test_a_session_whose_label_party_was_killed_goes_on(tmp_path: Path) -> None:
    federation = topology(tmp_path)
    log = embedded_url(tmp_path / "run" / "log")

    async def main() -> tuple[Outcome, Outcome]:
        async with await open_transport(log) as transport:
            await post(transport, stale(federation))
            bob = asyncio.create_task(take_part("bob", federation, tmp_path / "run"))
            await has_records(transport, link_topic("small", "bob", "alice", "stale-1"))
            alice = asyncio.create_task(take_part("alice", federation, tmp_path / "run"))
            return await alice, await bob

    alice, bob = asyncio.run(asyncio.wait_for(main(), 40))
    assert summary_of(alice).session == summary_of(bob).session == "stale-1"


def test_what_is_no_frame_on_its_own_link_is_named(tmp_path: Path) -> None:
    federation = topology(tmp_path, timeouts={"peer_s": 1})
    topic = link_topic("small", "bob", "alice", "stale-1")
    log = embedded_url(tmp_path / "run" / "log")

    async def main() -> Outcome:
        async with await open_transport(log) as transport:
            await post(transport, stale(federation))
            await transport.create_topic(topic)
            await transport.append(topic, [Record(value=b"begun")])
            return await take_part("bob", federation, tmp_path / "run")

    error = asyncio.run(main())
    assert isinstance(error, RemoteProtocolError)
    assert f"(topic {topic}, offset 0): TruncatedFrame" in str(error)


def test_a_session_that_failed_ends_the_party(tmp_path: Path) -> None:
    federation = topology(tmp_path)
    log = embedded_url(tmp_path / "run" / "log")

    async def main() -> Outcome:
        async with await open_transport(log) as transport:
            await post(transport, stale(federation))
            bob = asyncio.create_task(take_part("bob", federation, tmp_path / "run"))
            await has_records(transport, link_topic("small", "bob", "alice", "stale-1"))
            failed = Close(session="stale-1", outcome="failed", reason="disk full", incarnation=1)
            await post(transport, failed)
            return await bob

    error = asyncio.run(asyncio.wait_for(main(), 40))
    assert isinstance(error, SessionAborted)
    assert str(error) == "alice closed session stale-1 as failed: disk full"


def test_who_waits_for_an_answer_notices_that_its_own_link_is_gone(tmp_path: Path) -> None:
    """What was sent before cannot be read any more, so nobody will answer."""
    federation = topology(tmp_path)
    log = embedded_url(tmp_path / "run" / "log")
    topic = link_topic("small", "bob", "alice", "stale-1")

    async def main() -> Outcome:
        async with await open_transport(log) as transport:
            await post(transport, stale(federation))
            bob = asyncio.create_task(take_part("bob", federation, tmp_path / "run"))
            await has_records(transport, topic)
            # All of what a feature party begins with.
            assert await transport.wait(topic, 1, timeout_s=20)
            await transport.delete_topic(topic)
            return await bob

    error = asyncio.run(asyncio.wait_for(main(), 40))
    assert isinstance(error, TransportError)
    assert f"cannot look at the own link to alice (topic {topic}, offset 2)" in str(error)


@pytest.mark.parametrize(
    ("key", "value", "error", "text"),
    [
        ("data", {"path": "none.csv", "id": "id"}, DataError, "none.csv"),
        ("base", {"model": "math:sqrt"}, ModelError, "math:sqrt"),
    ],
)
def test_a_mistake_in_its_own_part_is_told_before_there_is_a_session(
    key: str, value: dict[str, Any], error: type[Exception], text: str, tmp_path: Path
) -> None:
    value_of = topology(tmp_path).file.model_dump(mode="json", exclude_none=True)
    value_of["parties"]["bob"][key] = value
    federation = Topology.from_dict(value_of, tmp_path)
    found = asyncio.run(asyncio.wait_for(take_part("bob", federation, tmp_path / "run"), 40))
    assert isinstance(found, error)
    assert text in str(found)


def test_another_process_of_the_label_party_takes_over(tmp_path: Path) -> None:
    federation = topology(tmp_path, features=2)
    directory = tmp_path / "run"

    async def main() -> dict[str, Outcome]:
        first = asyncio.create_task(take_part("alice", federation, directory))
        async with await open_transport(embedded_url(directory / "log")) as transport:
            await has_records(transport, LOBBY)
            bob = asyncio.create_task(take_part("bob", federation, directory))
            await has_records(transport, LOBBY)
        await asyncio.sleep(0.5)
        second = asyncio.create_task(take_part("alice", federation, directory))
        await asyncio.sleep(0.5)
        carol = asyncio.create_task(take_part("carol", federation, directory))
        return {
            "first": await first,
            "second": await second,
            "bob": await bob,
            "carol": await carol,
        }

    outcomes = asyncio.run(asyncio.wait_for(main(), 40))
    assert isinstance(outcomes["first"], Fenced)
    assert "another process of alice has " in str(outcomes["first"])
    sessions = {summary_of(outcomes[name]).session for name in ("second", "bob", "carol")}
    assert len(sessions) == 1


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"seed": 4}, "seed is 4 here, 3 there"),
        (
            {"training": {"batch_size": 8, "epochs": 2, "validation": 0.25}},
            "training.batch_size is 8 here, 16 there",
        ),
        ({"loss": "mse"}, 'loss is "mse" here, "bce" there'),
    ],
)
def test_another_topology_is_refused_with_the_field_and_both_values(
    tmp_path: Path, changes: dict[str, Any], field: str
) -> None:
    federation = topology(tmp_path)
    outcomes = run_all(
        tmp_path / "run", {"bob": topology(tmp_path, **changes), "alice": federation}
    )
    for name in ("alice", "bob"):
        assert isinstance(outcomes[name], SessionRefused)
        assert f"its topology differs from alice's: {field}" in str(outcomes[name])
    assert str(outcomes["alice"]).startswith("bob refused to take part: ")
    assert str(outcomes["bob"]).startswith("bob refused session ")


def test_a_stale_session_of_another_topology_is_left_too(tmp_path: Path) -> None:
    federation = topology(tmp_path)
    directory = tmp_path / "run"

    async def main() -> tuple[Outcome, Outcome]:
        async with await open_transport(embedded_url(directory / "log")) as transport:
            await post(transport, stale(topology(tmp_path, seed=4)))
            bob = asyncio.create_task(take_part("bob", federation, directory))
            await has_records(transport, link_topic("small", "bob", "alice", "stale-1"))
            alice = asyncio.create_task(take_part("alice", federation, directory, begin_new=True))
            return await alice, await bob

    alice, bob = asyncio.run(asyncio.wait_for(main(), 40))
    assert summary_of(alice).session == summary_of(bob).session


def test_a_refused_session_that_nobody_closes_ends_with_the_refusal(tmp_path: Path) -> None:
    federation = topology(tmp_path, timeouts={"peer_s": 1})
    log = embedded_url(tmp_path / "run" / "log")

    async def main() -> Outcome:
        async with await open_transport(log) as transport:
            await post(transport, stale(topology(tmp_path, seed=4)))
            return await take_part("bob", federation, tmp_path / "run")

    error = asyncio.run(asyncio.wait_for(main(), 20))
    assert isinstance(error, SessionRefused)
    assert "seed is 3 here, 4 there" in str(error)


def test_only_so_many_differences_are_told(tmp_path: Path) -> None:
    other = topology(
        tmp_path,
        seed=4,
        loss="mse",
        threads=2,
        optimizer={"name": "sgd", "lr": 0.5},
        training={"batch_size": 8, "epochs": 9, "validation": 0.25},
    )
    outcomes = run_all(tmp_path / "run", {"bob": other, "alice": topology(tmp_path)})
    assert str(outcomes["bob"]).endswith(" and 1 more")


@pytest.mark.parametrize("holder", ["alice", "bob"])
def test_a_key_file_that_only_one_side_has_is_refused_by_both(tmp_path: Path, holder: str) -> None:
    (tmp_path / "ids.key").write_text("sixteen or more bytes of secret")
    keyed = topology(tmp_path, alignment={"min_rows": 10, "key_file": "ids.key"})
    parties = {"bob": topology(tmp_path), "alice": topology(tmp_path), holder: keyed}
    outcomes = run_all(tmp_path / "run", parties)
    other = {"alice": "bob", "bob": "alice"}[holder]
    for name in ("alice", "bob"):
        assert isinstance(outcomes[name], SessionRefused)
        text = f"{holder} uses a key file for the ids and {other} none (alignment.key_file)"
        assert text in str(outcomes[name])


def test_a_shared_key_file_works_and_its_key_is_not_announced(tmp_path: Path) -> None:
    (tmp_path / "ids.key").write_text("sixteen or more bytes of secret")
    keyed = topology(tmp_path, alignment={"min_rows": 10, "key_file": "ids.key"})
    outcomes = run_all(tmp_path / "run", keyed)
    assert summary_of(outcomes["bob"]).rows["matched"] == 48

    async def announced() -> bytes:
        async with await open_transport(embedded_url(tmp_path / "run" / "log")) as transport:
            return (await transport.read(LOBBY, 0))[0].value

    assert b'"id_key":""' in asyncio.run(announced())


def test_different_keys_give_no_matches_and_say_so(tmp_path: Path) -> None:
    alignment = {"min_rows": 10, "key_file": "ids.key"}
    folders = {"alice": tmp_path / "a", "bob": tmp_path / "b"}
    parties = {}
    for name, folder in folders.items():
        folder.mkdir()
        (folder / "ids.key").write_text(f"a secret of {name}, of enough bytes")
        parties[name] = topology(folder, alignment=alignment)
    outcomes = run_all(tmp_path / "run", parties)
    assert isinstance(outcomes["alice"], DataError)
    assert "found 0" in str(outcomes["alice"])
    assert "the same key file" in str(outcomes["bob"])


def test_another_version_of_the_protocol_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Both run in one process, so only what alice announces is changed.
    announce = Announce

    def of_version_2(**fields: Any) -> Announce:
        return announce(**fields, protocol=2)

    monkeypatch.setitem(lead.__globals__, "Announce", of_version_2)
    outcomes = run_all(tmp_path / "run", topology(tmp_path))
    assert isinstance(outcomes["bob"], SessionRefused)
    text = "it speaks version 1 of the protocol, alice version 2; use the same release of slstream"
    assert text in str(outcomes["alice"])
