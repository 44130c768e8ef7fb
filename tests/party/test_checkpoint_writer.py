"""Checkpoints beside the training: one at a time, after the log, failures told."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from slstream.errors import Fenced, StorageError, TransportBroken
from slstream.party.checkpoint import Checkpoint, Standing
from slstream.party.checkpoint_writer import CheckpointWriter
from slstream.party.incarnation import Incarnation
from slstream.party.link_reader import LinkMark
from slstream.party.model_state import ModelState
from slstream.party.party_files import PartyFiles
from slstream.party.summary import TimeSpent
from slstream.protocol.actions import Cursor
from tests.party.memory_log import MemoryLog

TOPIC = "small.bob-to-alice.s"


def checkpoint(step: int) -> Checkpoint:
    standing = Standing(
        federation="small",
        party="bob",
        session="s",
        digest="d",
        incarnation=1,
        cursor=Cursor(step=step),
        inbound={"alice": LinkMark(offset=3 * step)},
        outbound={"alice": LinkMark(offset=step)},
        traffic=[],
        time=TimeSpent(
            opening_s=0.0, compute_s=0.5, codec_s=0.1, transport_s=0.1, waiting_s=0.1, total_s=1.0
        ),
        environment={},
    )
    return Checkpoint(standing=standing, model=ModelState(tensors={}, optimizers={}))


class SlowFiles(PartyFiles):
    """Writes when it is allowed to."""

    def __init__(self, directory: Path, log: MemoryLog) -> None:
        super().__init__(directory, federation="small", party="bob")
        self.begun: list[int] = []
        self.flushes_before: list[int] = []
        self.entered = threading.Semaphore(0)
        self.allowed = threading.Semaphore(0)
        self.refuse = False
        self._log = log

    def save_checkpoint(self, checkpoint: Checkpoint) -> None:
        self.begun.append(checkpoint.standing.cursor.step)
        self.flushes_before.append(len(self._log.flushed))
        self.entered.release()
        self.allowed.acquire()
        if self.refuse:
            raise StorageError("no space left on device")
        super().save_checkpoint(checkpoint)

    def steps(self) -> list[int]:
        return [found.standing.cursor.step for found in self.checkpoints("s")]


def check(
    tmp_path: Path, body: Callable[[CheckpointWriter, SlowFiles, MemoryLog], Awaitable[None]]
) -> None:
    async def main() -> None:
        log = MemoryLog()
        incarnation = await Incarnation.claim(log, "small", "bob")
        files = SlowFiles(tmp_path, log)
        writer = CheckpointWriter(log, incarnation, files)
        try:
            async with asyncio.timeout(20):
                await body(writer, files, log)
        finally:
            files.allowed.release(100)
            await writer.leave()

    asyncio.run(main())


def test_one_at_a_time_each_after_the_log_is_on_the_disk(tmp_path: Path) -> None:
    async def body(writer: CheckpointWriter, files: SlowFiles, log: MemoryLog) -> None:
        await writer.write(checkpoint(1))
        await asyncio.to_thread(files.entered.acquire)
        second = asyncio.create_task(writer.write(checkpoint(2)))
        await asyncio.sleep(0.05)
        assert not second.done(), "the first is not done"
        assert files.begun == [1]
        files.allowed.release()
        await second
        files.allowed.release()
        await writer.finish()
        assert files.steps() == [2, 1]
        assert files.flushes_before == [1, 2]

    check(tmp_path, body)


def test_nothing_is_written_over_what_a_successor_wrote_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def body(writer: CheckpointWriter, files: SlowFiles, log: MemoryLog) -> None:
        async def slow_disk() -> None:
            await Incarnation.claim(log, "small", "bob")

        monkeypatch.setattr(log, "flush", slow_disk)
        files.allowed.release(1)
        await writer.write(checkpoint(1))
        with pytest.raises(Fenced):
            await writer.finish()
        assert files.begun == []

    check(tmp_path, body)


def test_a_party_goes_on_while_one_is_written(tmp_path: Path) -> None:
    async def body(writer: CheckpointWriter, files: SlowFiles, log: MemoryLog) -> None:
        await writer.write(checkpoint(1))
        await asyncio.to_thread(files.entered.acquire)
        writer.raise_if_failed()
        assert files.steps() == []
        files.allowed.release()
        await writer.finish()
        assert files.steps() == [1]

    check(tmp_path, body)


async def tell_at_once(writer: CheckpointWriter) -> None:
    writer.raise_if_failed()


@pytest.mark.parametrize(
    "next_call",
    [lambda writer: writer.write(checkpoint(2)), CheckpointWriter.finish, tell_at_once],
    ids=["write", "finish", "raise_if_failed"],
)
def test_a_full_disk_is_told_by_the_next_call(
    tmp_path: Path, next_call: Callable[[CheckpointWriter], Awaitable[None]]
) -> None:
    async def body(writer: CheckpointWriter, files: SlowFiles, log: MemoryLog) -> None:
        files.refuse = True
        files.allowed.release()
        await writer.write(checkpoint(1))
        await asyncio.to_thread(files.entered.acquire)
        await asyncio.sleep(0.05)
        with pytest.raises(StorageError, match="no space left"):
            await next_call(writer)
        assert files.begun == [1]

    check(tmp_path, body)


def test_what_was_read_is_shown_once_the_checkpoint_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def body(writer: CheckpointWriter, files: SlowFiles, log: MemoryLog) -> None:
        shown: list[tuple[str, dict[str, int], list[int]]] = []

        async def commit(group: str, offsets: dict[str, int]) -> None:
            shown.append((group, offsets, files.steps()))

        monkeypatch.setattr(log, "commit", commit)
        await writer.write(checkpoint(5))
        await asyncio.to_thread(files.entered.acquire)
        assert shown == []
        files.allowed.release()
        await writer.finish()
        assert shown == [("small.bob", {"small.alice-to-bob.s": 15}, [5])]

    check(tmp_path, body)


def test_nothing_is_written_on_a_log_that_is_not_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def body(writer: CheckpointWriter, files: SlowFiles, log: MemoryLog) -> None:
        async def broken() -> None:
            raise TransportBroken("input/output error")

        monkeypatch.setattr(log, "flush", broken)
        await writer.write(checkpoint(7))
        with pytest.raises(
            TransportBroken, match=r"cannot force the log .* 0 epochs and 7 steps: input/output"
        ):
            await writer.finish()
        assert files.begun == []

    check(tmp_path, body)


def test_a_fenced_process_writes_none(tmp_path: Path) -> None:
    async def body(writer: CheckpointWriter, files: SlowFiles, log: MemoryLog) -> None:
        await Incarnation.claim(log, "small", "bob")
        await writer.write(checkpoint(1))
        with pytest.raises(Fenced):
            await writer.finish()
        assert (files.begun, log.flushed) == ([], [])

    check(tmp_path, body)


def test_what_is_nearly_done_is_done_at_the_end(tmp_path: Path) -> None:
    async def body(writer: CheckpointWriter, files: SlowFiles, log: MemoryLog) -> None:
        await writer.leave()
        await writer.write(checkpoint(1))
        asyncio.get_running_loop().call_later(0.1, files.allowed.release)
        await writer.leave()
        assert files.steps() == [1]

    check(tmp_path, body)


def test_a_party_that_ends_does_not_wait_for_a_disk_that_hangs_nor_tell_of_it(
    tmp_path: Path,
) -> None:
    async def body(writer: CheckpointWriter, files: SlowFiles, log: MemoryLog) -> None:
        await writer.write(checkpoint(1))
        await asyncio.to_thread(files.entered.acquire)
        await writer.leave()
        assert files.steps() == []
        files.refuse = True
        files.allowed.release(2)
        await writer.write(checkpoint(2))
        await writer.leave()

    check(tmp_path, body)
