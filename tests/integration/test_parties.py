"""Parties as processes of their own, started by hand, meet through the log."""

from __future__ import annotations

import asyncio
import json
import re
import resource
import signal
from pathlib import Path
from time import sleep

import pytest

from slstream.frames.topics import parse_link_topic
from slstream.frames.wire_size import wire_size
from slstream.party.summary import Summary
from slstream.transport.connect import embedded_url, open_transport
from tests.integration.processes import Program, party, write_federation
from tests.party.small_session import PREFIX

LONG = {"batch_size": 16, "epochs": 60000, "validation": 0.25}


def summary_of(program: Program) -> Summary:
    text = program.text
    return Summary.from_json(text[text.index("{\n") :])


def wire_bytes(run: Path, session: str) -> dict[tuple[str, str], tuple[int, int]]:
    """Records and bytes of each link, as the log holds them."""

    async def main() -> dict[tuple[str, str], tuple[int, int]]:
        found = {}
        async with await open_transport(embedded_url(run / "log"), read_only=True) as log:
            for topic in await log.topics("small."):
                if not topic.endswith(session):
                    continue
                link, offset, size = parse_link_topic(topic), 0, 0
                while records := await log.read(topic, offset):
                    size += sum(map(wire_size, records))
                    offset = records[-1].offset + 1
                found[link.sender, link.receiver] = (offset, size)
        return found

    return asyncio.run(main())


def test_parties_meet_in_any_order(tmp_path: Path) -> None:
    topology, run = write_federation(tmp_path, 2), tmp_path / "run"
    with party("bob", topology, run) as bob:
        bob.wait_for("waiting")  # for alice to announce a session
        with party("alice", topology, run) as alice:
            alice.wait_for("session announced")
            with party("carol", topology, run) as carol:
                programs = {"alice": alice, "bob": bob, "carol": carol}
                assert {name: each.end() for name, each in programs.items()} == dict.fromkeys(
                    programs, 0
                ), [each.text for each in programs.values()]
    summaries = {name: summary_of(each) for name, each in programs.items()}
    alices = summaries["alice"]
    for name, summary in summaries.items():
        assert summary.rows == {"matched": 48, "train": 36, "validation": 12}
        assert summary.party_rows == {"alice": 51, "bob": 52, "carol": 53}
        assert (summary.weights, summary.history) == (alices.weights, alices.history)
        on_disk = json.loads((run / name / "summary.json").read_text())
        assert on_disk == json.loads(summary.to_json())
    # What the parties have counted is what the log holds, to the byte.
    counted: dict[tuple[str, str], tuple[int, int]] = {}
    for summary in summaries.values():
        for entry in summary.traffic:
            frames, size = counted.get((entry.sender, entry.receiver), (0, 0))
            place = (entry.sender, entry.receiver)
            counted[place] = (frames + entry.frames, size + entry.wire_bytes)
    assert counted == wire_bytes(run, alices.session)
    # Ids of rows never cross, neither of those that all have nor of the others.
    content = b"".join(path.read_bytes() for path in (run / "log").rglob("*") if path.is_file())
    assert alices.session.encode() in content
    assert PREFIX.encode() in (tmp_path / "bob.csv").read_bytes()
    assert b"customer-of-" not in content


@pytest.mark.long  # One party in one process: tests/party/test_runtime.py.
def test_sigterm_ends_one_party_and_the_other_waits_for_it(tmp_path: Path) -> None:
    topology, run = write_federation(tmp_path, 1, training=LONG), tmp_path / "run"
    with party("alice", topology, run) as alice:
        with party("bob", topology, run) as bob:
            bob.wait_for("epoch done epoch=2")
            bob.process.send_signal(signal.SIGTERM)
            assert bob.end() == 130
            assert "stopped: bob was interrupted by SIGTERM; its session stays open" in bob.text
        alice.wait_for("waiting for=\"bob's")
        with party("bob", topology, run) as again:
            again.wait_for("checkpoint loaded")
            again.wait_for("epoch done")
            assert "epoch done epoch=1 " not in again.text
            for each in (alice, again):
                each.process.send_signal(signal.SIGINT)
            assert [each.end() for each in (alice, again)] == [130, 130]
        assert "Traceback" not in alice.text + bob.text + again.text
    for name in ("alice", "bob"):
        assert not (run / name / "model.safetensors").exists()


def test_a_killed_label_party_goes_on_while_the_other_waits(tmp_path: Path) -> None:
    topology, run = write_federation(tmp_path, 1), tmp_path / "run"
    with party("alice", topology, run) as alice:
        alice.wait_for("session announced")
        alice.process.kill()
        alice.end()
    with party("bob", topology, run) as bob:
        bob.wait_for("session joined")
        with party("alice", topology, run) as alice:
            assert alice.end() == 0, alice.text
        assert bob.end() == 0, bob.text
        assert bob.text.count("session joined") == 1
        assert "session resumed" in alice.text
        assert summary_of(bob).session == summary_of(alice).session


def test_a_full_disk_stops_the_party_in_mid_session(tmp_path: Path) -> None:
    topology, run = write_federation(tmp_path, 1, training=LONG), tmp_path / "run"

    def little_space() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, 2_000_000))

    with (
        party("alice", topology, run) as alice,
        party("bob", topology, run, before=little_space) as bob,
    ):
        assert bob.end() == 1, bob.text
        assert "epoch done epoch=1" in bob.text
        assert re.search(
            r"^error: cannot (send|read|force) .* failed and cannot be used",
            bob.text,
            re.M,
        ), bob.text
        assert "Traceback" not in bob.text
        assert not (run / "bob" / "model.safetensors").exists()
        # He could tell nobody; she waits for him, and says so.
        sleep(1.2)
        assert alice.process.poll() is None, alice.text
        assert "waiting for=\"bob's" in alice.text
        alice.process.send_signal(signal.SIGINT)
        assert alice.end() == 130
