from __future__ import annotations

import asyncio
import json
import socket
import subprocess
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

from slstream.errors import SlstreamError
from slstream.frames.header import FrameKind
from slstream.frames.topics import incarnations_topic
from slstream.soak.kill_plan import Kill, KillKind
from slstream.soak.killer import Killer
from slstream.transport.connect import embedded_url
from tests.audit.small_log import SmallLog, announce, fence, frames, open_log
from tests.soak.sleeper import command_of, sleeping

PARTIES = ("alice", "bob")


def kill(frames: int, kind: KillKind = KillKind.ONE, latest: int = 99) -> Kill:
    return Kill(
        sender="bob", receiver="alice", frames=frames, kind=kind, party="bob", latest=latest
    )


class Run:
    """A run of two parties that sleep, and its log."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder = folder
        self._stack = stack
        self.log: SmallLog
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.sent = 0

    async def start(self, party: str) -> None:
        """A process of a party, and its claim."""
        process = self._stack.enter_context(sleeping(*command_of(self.folder, party)))
        self.processes[party] = process
        await self.claim(party, process.pid)

    async def claim(self, party: str, pid: int, host: str | None = None) -> None:
        value = json.dumps({"pid": pid, "host": host or socket.gethostname()}).encode()
        await self.log.append(incarnations_topic("credit", party), [value])

    async def send(self, count: int) -> None:
        steps = [(1, self.sent + n) for n in range(1, count + 1)]
        await self.log.link("bob", "alice", frames(FrameKind.ACTIVATION, steps, sequence=self.sent))
        self.sent += count

    def killer(self) -> Killer:
        return Killer(
            embedded_url(self.folder / "log"),
            federation="credit",
            parties=PARTIES,
            directory=self.folder,
            lobby_offset=0,
        )

    def alive(self) -> set[str]:
        return {name for name, process in self.processes.items() if process.poll() is None}


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def attempt(
    folder: Path, stack: ExitStack, body: Callable[[Run], Coroutine[Any, Any, None]]
) -> None:
    async def main() -> None:
        run = Run(folder, stack)
        async with await open_log(folder / "log") as log:
            run.log = SmallLog(log)
            await run.log.lobby(b"noise", announce())
            for party in PARTIES:
                await run.start(party)
            await run.send(2)
            await body(run)

    asyncio.run(main())


async def soon(true: Callable[[], bool]) -> None:
    for _ in range(2000):
        if true():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("it did not happen")


async def never(true: Callable[[], bool]) -> None:
    for _ in range(10):
        assert not true()
        await asyncio.sleep(0.005)


async def end(task: asyncio.Task[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


def test_kills_one_party_as_soon_as_the_frames_stand(tmp_path: Path, stack: ExitStack) -> None:
    async def body(run: Run) -> None:
        killer = run.killer()
        task = asyncio.create_task(killer.run([kill(5)]))
        await run.send(2)
        # Records that are no frames of their own do not count.
        await run.log.link("bob", "alice", [fence(2), fence(3), fence(4)])
        await never(lambda: run.alive() != set(PARTIES))
        steps = [(1, 5)]
        more = frames(FrameKind.ACTIVATION, steps, sequence=4, incarnation=4)
        await run.log.link("bob", "alice", more)
        await asyncio.wait_for(task, 10)
        assert run.alive() == {"alice"}
        assert [done.kind for done in killer.done] == [KillKind.ONE]

    attempt(tmp_path, stack, body)


def test_kills_all_at_once(tmp_path: Path, stack: ExitStack) -> None:
    async def body(run: Run) -> None:
        killer = run.killer()
        await asyncio.wait_for(killer.run([kill(1, KillKind.ALL)]), 10)
        assert run.alive() == set()
        assert [done.kind for done in killer.done] == [KillKind.ALL]

    attempt(tmp_path, stack, body)


def test_kills_the_successor_next(tmp_path: Path, stack: ExitStack) -> None:
    async def body(run: Run) -> None:
        killer = run.killer()
        task = asyncio.create_task(killer.run([kill(1), kill(2)]))
        await soon(lambda: run.alive() == {"alice"})
        await run.claim("bob", run.processes["bob"].pid)  # who is dead
        await run.claim("bob", run.processes["alice"].pid)  # who is another
        await run.log.append(incarnations_topic("credit", "bob"), [b"{}", b"[1]", b"\xff"])
        await never(lambda: len(killer.done) > 1)
        await run.start("bob")
        await asyncio.wait_for(task, 10)
        assert run.alive() == {"alice"}

    attempt(tmp_path, stack, body)


def test_kills_nobody_on_another_machine(tmp_path: Path, stack: ExitStack) -> None:
    async def body(run: Run) -> None:
        await run.claim("bob", run.processes["bob"].pid, host="elsewhere")
        task = asyncio.create_task(run.killer().run([kill(1)]))
        await never(lambda: run.alive() != set(PARTIES))
        await end(task)

    attempt(tmp_path, stack, body)


def test_a_party_that_does_not_come_back_is_told(
    tmp_path: Path, stack: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("slstream.soak.killer.PATIENCE_S", 0.1)

    async def body(run: Run) -> None:
        with pytest.raises(SlstreamError, match=r"expected bob to be started again .* offset 1\)"):
            await run.killer().run([kill(1), kill(2)])

    attempt(tmp_path, stack, body)


Write = Callable[[Run, Path], Awaitable[None]]


def attempt_in_checkpoint(folder: Path, stack: ExitStack, write: Write, expected: KillKind) -> None:
    async def body(run: Run) -> None:
        checkpoints = run.folder / "bob" / "checkpoints" / "session"
        checkpoints.mkdir(parents=True)
        (checkpoints / ".00001-0000000.safetensors.tmp").write_bytes(b"left by an earlier kill")
        killer = run.killer()
        task = asyncio.create_task(killer.run([kill(1, KillKind.CHECKPOINT, latest=4)]))
        await never(lambda: run.alive() != set(PARTIES))
        await write(run, checkpoints)
        await asyncio.wait_for(task, 10)
        assert run.alive() == {"alice"}
        assert [done.kind for done in killer.done] == [expected]

    attempt(folder, stack, body)


def test_kills_within_the_write_of_a_checkpoint(tmp_path: Path, stack: ExitStack) -> None:
    async def write(run: Run, folder: Path) -> None:
        (folder / ".00002-0000000.safetensors.tmp").write_bytes(b"")

    attempt_in_checkpoint(tmp_path, stack, write, KillKind.CHECKPOINT)


def test_a_file_that_is_written_anew_is_another_one(tmp_path: Path, stack: ExitStack) -> None:
    async def write(run: Run, folder: Path) -> None:
        (folder / ".00001-0000000.safetensors.tmp").write_bytes(b"again")

    attempt_in_checkpoint(tmp_path, stack, write, KillKind.CHECKPOINT)


def test_a_published_checkpoint_was_missed(tmp_path: Path, stack: ExitStack) -> None:
    async def write(run: Run, folder: Path) -> None:
        whole = folder / ".00002-0000000.safetensors.tmp"
        whole.write_bytes(b"")
        whole.rename(folder / "00002-0000000.safetensors")  # before anyone can look
        await run.send(2)

    attempt_in_checkpoint(tmp_path, stack, write, KillKind.ONE)


def test_without_a_checkpoint_it_is_a_plain_kill(tmp_path: Path, stack: ExitStack) -> None:
    async def write(run: Run, folder: Path) -> None:
        await run.send(1)
        await never(lambda: run.alive() != set(PARTIES))
        await run.send(1)

    attempt_in_checkpoint(tmp_path, stack, write, KillKind.ONE)


def test_a_link_that_cannot_be_followed_ends_the_killing(tmp_path: Path, stack: ExitStack) -> None:
    async def body(run: Run) -> None:
        await run.log.append(
            "credit.bob-to-alice.20260131-120000-7f3a00", [b"no frame", b"no frame"]
        )
        with pytest.raises(SlstreamError, match=r"offset 2: TruncatedFrame"):
            await run.killer().run([kill(4)])
        assert run.alive() == set(PARTIES)

    attempt(tmp_path, stack, body)
