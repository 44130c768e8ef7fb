"""Storage that fails: the object breaks for good, and says nothing was sent that was not."""

from __future__ import annotations

import asyncio
import errno
import os
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from slstream.errors import TransportBroken
from slstream.transport.contract import Durability, Record, Transport
from tests.transport.logs import append, contents, open_log, read_all, run, values


async def assert_broken(log: Transport, says: str) -> None:
    calls: list[Callable[[], Awaitable[object]]] = [
        lambda: log.append("t", [Record(value=b"later")]),
        lambda: log.read("t", 0),
        lambda: log.end_offset("t"),
        lambda: log.wait("t", 100, timeout_s=0.1),
        lambda: log.flush(),
        lambda: log.topics(),
        lambda: log.create_topic("u"),
    ]
    for call in calls:
        with pytest.raises(TransportBroken, match=says):
            await call()


def failing(code: int) -> Callable[..., int]:
    def fail(*_: object) -> int:
        raise OSError(code, os.strerror(code))

    return fail


@pytest.mark.parametrize(
    ("call", "code"),
    [("pwrite", errno.ENOSPC), ("pwrite", errno.EIO), ("fdatasync", errno.EIO)],
)
@pytest.mark.parametrize("durability", Durability)
def test_a_failed_call_breaks_the_object_for_good(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, code: int, durability: Durability
) -> None:
    async def body() -> None:
        async with await open_log(tmp_path, durability=durability) as log:
            await log.create_topic("t")
            await append(log, "t", [b"a", b"b"])
            wait = asyncio.create_task(log.wait("t", 100))
            await asyncio.sleep(0)
            with monkeypatch.context() as patch:
                patch.setattr(os, call, failing(code))
                outcomes = await asyncio.gather(
                    *(log.append("t", [Record(value=b"c")]) for _ in range(5)),
                    return_exceptions=True,
                )
                sent.extend(o for o in outcomes if isinstance(o, int))
                # After them: one beside them may have forced what there was before they failed.
                with pytest.raises(TransportBroken):
                    await log.flush()
            # The disk works again: this object does not.
            await assert_broken(log, os.strerror(code))
            with pytest.raises(TransportBroken):
                await wait

    sent: list[object] = []
    run(body())
    if call == "pwrite" or durability is Durability.STEP:
        assert sent == []
    assert contents(tmp_path)[: 2 + len(sent)] == [b"a", b"b"] + [b"c"] * len(sent)


def test_others_do_not_believe_in_what_a_failed_sync_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After it the page cache looks clean, so a second sync would succeed and mean nothing."""

    async def body() -> None:
        async with await open_log(tmp_path) as log, await open_log(tmp_path) as other:
            await log.create_topic("t")
            await append(log, "t", [b"a"])
            await append(other, "t", [b"b"])
            with monkeypatch.context() as patch:
                patch.setattr(os, "fdatasync", failing(errno.EIO))
                with pytest.raises(TransportBroken):
                    await log.flush()
            with pytest.raises(TransportBroken, match=r"segment: an earlier attempt"):
                await other.flush()
        async with await open_log(tmp_path) as again:
            await again.flush()
            assert values(await read_all(again, "t")) == [b"a", b"b"]

    run(body())


_FILL = """
import asyncio, resource, signal, sys
from pathlib import Path
from slstream.errors import TransportBroken
from slstream.transport.contract import Record
from slstream.transport.embedded.transport import EmbeddedTransport
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
async def main():
    async with await EmbeddedTransport.open(Path(sys.argv[1])) as log:
        await log.create_topic("t")
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
        for i in range(100):
            try:
                await log.append("t", [Record(value=b"%d" % i * 30_000)])
            except TransportBroken as error:
                break
            print(i, flush=True)
        try:
            await log.append("t", [Record(value=b"small")])
        except TransportBroken as error:
            print(error)
asyncio.run(main())
"""


def test_a_full_file_ends_the_writer_and_leaves_what_it_acknowledged(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _FILL, str(tmp_path)], capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 0, done.stderr
    *acknowledged, message = done.stdout.splitlines()
    assert 10 < len(acknowledged) < 40
    assert "File too large" in message
    assert contents(tmp_path) == [b"%d" % i * 30_000 for i in range(len(acknowledged))]


def the_segment(path: Path) -> Path:
    (segment,) = path.glob("segments/*")
    return segment


def test_a_damaged_byte_is_found_when_it_is_read(tmp_path: Path) -> None:
    async def body() -> None:
        async with await open_log(tmp_path) as log:
            await log.create_topic("t")
            await append(log, "t", [b"first", b"second", b"third"])
            await log.flush()
            segment = the_segment(tmp_path)
            data = bytearray(segment.read_bytes())
            data[7] ^= 1
            segment.write_bytes(data)
            assert values(await log.read("t", 0, max_records=1)) == [b"first"]
            says = rf"t\[0\] offset 1: expected 6 bytes .* at 5 of {re.escape(str(segment))}"
            with pytest.raises(TransportBroken, match=says):
                await log.read("t", 0)
            await assert_broken(log, says)
        # What was flushed is not cut when the log is opened: that would hide the damage.
        async with await open_log(tmp_path) as again:
            assert await again.end_offset("t") == 3
            with pytest.raises(TransportBroken, match=says):
                await again.read("t", 1)

    run(body())


def test_a_missing_segment_is_named(tmp_path: Path) -> None:
    async def body() -> None:
        async with await open_log(tmp_path) as log:
            await log.create_topic("t")
            await append(log, "t", [b"first"])
            await log.flush()
        segment = the_segment(tmp_path)
        segment.unlink()
        async with await open_log(tmp_path) as log:
            with pytest.raises(TransportBroken, match=f"{segment}, found no such file"):
                await log.read("t", 0)

    run(body())


def test_an_index_that_contradicts_itself_is_named(tmp_path: Path) -> None:
    async def body() -> None:
        async with await open_log(tmp_path) as log:
            await log.create_topic("t")
            await append(log, "t", [b"a", b"b", b"c"])
            with sqlite3.connect(tmp_path / "index.sqlite") as db:
                db.execute('DELETE FROM records WHERE "offset" = 1')
            db.close()
            says = r"t\[0\]: expected the records 0 to 2 in .*index.sqlite, found none at 1"
            with pytest.raises(TransportBroken, match=says):
                await log.read("t", 1)
            await assert_broken(log, says)

    run(body())


def test_a_broken_index_breaks_the_object(tmp_path: Path) -> None:
    async def body() -> None:
        async with await open_log(tmp_path) as log:
            await log.create_topic("t")
            log._near.index._db.close()
            with pytest.raises(TransportBroken, match="closed database"):
                await log.end_offset("t")
            await assert_broken(log, "closed database")

    run(body())


_STRACE = shutil.which("strace")
needs_strace = pytest.mark.skipif(_STRACE is None, reason="strace is not installed")

_STEPS = """
import asyncio, os, sys
from pathlib import Path
from slstream.errors import TransportBroken
from slstream.transport.contract import Durability, Record
from slstream.transport.embedded.transport import EmbeddedTransport
async def main():
    path, durability, count = Path(sys.argv[1]), Durability(sys.argv[2]), int(sys.argv[3])
    async with await EmbeddedTransport.open(path, durability=durability) as log:
        for i in range(count):
            try:
                await log.append("t", [Record(value=b"%d" % i * 100)])
            except TransportBroken:
                os.write(1, b"broken\\n")
                return
            os.write(1, b"sent\\n")
        await log.flush()
        os.write(1, b"flushed\\n")
asyncio.run(main())
"""


def traced(path: Path, durability: Durability, *options: str) -> tuple[str, str]:
    """Standard output of five appends and a flush, and the system calls behind them."""
    trace = path.with_name("trace")
    run(with_topic(path))
    command = [str(_STRACE), "-f", "-y", "-s", "16", "-o", str(trace), *options]
    done = subprocess.run(
        [*command, sys.executable, "-c", _STEPS, str(path), durability, "5"],
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, trace.read_text()


async def with_topic(path: Path) -> None:
    async with await open_log(path) as log:
        await log.create_topic("t")


_CALLS = "trace=pwrite64,fdatasync,fsync,write"


def story(trace: str) -> str:
    """The calls in short: S/W a write to segment or WAL, s/w its sync, A what was printed."""
    letters = {
        ("pwrite64", ".segment"): "S",
        ("fdatasync", ".segment"): "s",
        ("pwrite64", "-wal"): "W",
        ("fdatasync", "-wal"): "w",
        ("fsync", "-wal"): "w",
    }
    found = []
    for line in trace.splitlines():
        call = re.search(r"(\w+)\(\d+<([^>]*)>", line)
        if call is None or "resumed" in line:
            continue
        if call[1] == "write" and ('"sent' in line or '"flushed' in line):
            found.append("A")
        for (name, suffix), letter in letters.items():
            if call[1] == name and call[2].endswith(suffix):
                found.append(letter)
    return re.sub(r"W+", "W", "".join(found))


@needs_strace
def test_step_durability_syncs_payload_then_index_then_answers(tmp_path: Path) -> None:
    _, trace = traced(tmp_path / "log", Durability.STEP, "-e", _CALLS)
    appends = story(trace)[story(trace).index("S") :]
    assert appends.startswith("SsWwA" * 5), appends


@needs_strace
def test_checkpoint_durability_syncs_at_the_flush_only(tmp_path: Path) -> None:
    _, trace = traced(tmp_path / "log", Durability.CHECKPOINT, "-e", _CALLS)
    appends = story(trace)[story(trace).index("S") :]
    assert appends.startswith("SWA" * 5 + "swWA"), appends


@needs_strace
@pytest.mark.parametrize(
    ("call", "file", "nth"),
    [
        ("pwrite64", "segments/000000000001.segment", 3),
        ("pwrite64", "index.sqlite-wal", 14),
        ("pwrite64", "index.sqlite-wal", 21),
        ("fdatasync", "segments/000000000001.segment", 2),
        ("fdatasync", "index.sqlite-wal", 4),
    ],
)
def test_an_error_injected_into_the_kernel_is_never_answered_as_sent(
    tmp_path: Path, call: str, file: str, nth: int
) -> None:
    fault = f"inject={call}:error=EIO:when={nth}"
    only = str(tmp_path / "log" / file)
    output, _ = traced(tmp_path / "log", Durability.STEP, "-P", only, "-e", fault)
    sent = output.count("sent")
    assert sent < 5
    assert output.endswith("broken\n")
    found = contents(tmp_path / "log")
    assert found[:sent] == [b"%d" % i * 100 for i in range(sent)]
    assert len(found) in (sent, sent + 1)
