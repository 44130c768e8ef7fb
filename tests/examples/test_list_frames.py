"""The example is run as its reader would, on the log of a real session on a real broker."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import uuid
from dataclasses import dataclass
from pathlib import Path

import pytest

from slstream.frames.header import HEADER_BYTES, decode_header
from slstream.frames.link import FrameWriter
from slstream.frames.topics import link_topic
from slstream.transport.connect import open_transport
from slstream.transport.contract import Record, StoredRecord
from tests.party.small_session import run_all, summary_of, topology
from tests.source_tree import ROOT

pytest_plugins = ["tests.kafka.fixtures"]

EXAMPLE = ROOT / "examples" / "list_frames.py"


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    id: str
    records: list[StoredRecord]
    """Of its links, in no order."""


def list_frames(session: str, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(EXAMPLE), session, *options],
        capture_output=True,
        text=True,
        check=False,
        timeout=40,
    )


async def restart_label_party(url: str, federation: str, session: str) -> None:
    """What a second process of hers begins with: a fence, which has no step."""
    fence = FrameWriter(sender="alice", incarnation=2).fence()
    record = Record(key=fence.key, headers=fence.headers, value=fence.value)
    async with await open_transport(url) as log:
        await log.append(link_topic(federation, "alice", "bob", session), [record])


async def read_links(url: str, federation: str, session: str) -> list[StoredRecord]:
    found: list[StoredRecord] = []
    async with await open_transport(url, read_only=True) as log:
        for topic in await log.topics(f"{federation}."):
            if topic.endswith(f".{session}"):
                end = await log.end_offset(topic)
                while (offset := sum(record.topic == topic for record in found)) < end:
                    found += await log.read(topic, offset)
    return found


@pytest.fixture(scope="module")
def session(kafka: str, tmp_path_factory: pytest.TempPathFactory) -> Session:
    """Two parties have trained for an epoch."""
    folder: Path = tmp_path_factory.mktemp("session")
    federation = f"listed-{uuid.uuid4().hex[:8]}"
    outcomes = run_all(
        folder / "run",
        topology(
            folder,
            federation=federation,
            transport=f"kafka://{kafka}",
            training={"batch_size": 16, "epochs": 1, "validation": 0.25},
        ),
    )
    found = summary_of(outcomes["alice"]).session
    asyncio.run(restart_label_party(f"kafka://{kafka}", federation, found))
    records = asyncio.run(read_links(f"kafka://{kafka}", federation, found))
    return Session(id=found, records=records)


def test_every_frame_is_listed_as_it_is_in_the_log(kafka: str, session: Session) -> None:
    listed = list_frames(session.id, f"bootstrap.servers={kafka}")
    assert listed.returncode == 0, listed.stderr
    kinds = set()
    expected = []
    for record in session.records:
        header, headers = decode_header(record.value), dict(record.headers)
        kinds.add(headers["kind"].decode())
        payload_bytes = len(record.value) - HEADER_BYTES
        expected.append(
            f"{record.topic} offset={record.offset} timestamp={record.timestamp_ms} "
            f"key={(record.key or b'').decode()} kind={headers['kind'].decode()} "
            f"step={headers.get('step', b'-').decode()} schema={header.schema_id} chunk=1/1 "
            f"record_bytes={len(record.value)} payload_bytes={payload_bytes}"
        )
    assert kinds >= {"control", "fence", "ids", "match", "activation", "gradient", "evaluation"}
    assert sorted(listed.stdout.splitlines()) == sorted(expected)


def test_it_says_how_it_is_called() -> None:
    called = list_frames("20260131-101500-7f3a2b")
    assert (called.returncode, called.stdout) == (1, "")
    assert "list_frames.py SESSION bootstrap.servers=" in called.stderr


def test_an_unknown_session_is_an_error(kafka: str) -> None:
    listed = list_frames("20260131-101500-7f3a2b", f"bootstrap.servers={kafka}")
    assert (listed.returncode, listed.stdout) == (1, "")
    assert "expected links of a session '20260131-101500-7f3a2b', found none" in listed.stderr


def test_a_broker_that_is_not_there_is_an_error() -> None:
    called = list_frames("20260131-101500-7f3a2b", "bootstrap.servers=localhost:1")
    assert (called.returncode, called.stdout) == (1, "")
    (line,) = called.stderr.splitlines()
    assert line.startswith("expected an answer of the broker within 10 s: ")
