"""A process that appends, flushes and checkpoints until something stops it.

``python -S -m tests.faults.victim ROOT ACKS [options]``. Each thing that is done is acknowledged by
a line in the open file ACKS: ``visible N``, ``durable N``, ``flushed N``, ``checkpoint N``, where N
counts records. The line is written with ``writev``, which nothing else here uses: so who traces the
process sees it between the other calls, and who injects faults can spare it.

It ends with status 0, or with 3 after the line ``failed ERROR`` when the storage failed.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import os
import resource
import signal
import stat
import sys
from collections.abc import Callable
from pathlib import Path

from slstream.errors import SlstreamError, TransportBroken
from slstream.party.atomic_file import write_atomically
from slstream.transport.contract import Durability
from slstream.transport.embedded import (
    checkpointer,
    folders,
    forcing,
    payload,
    segments,
    writer,
)
from slstream.transport.embedded.index import Index
from slstream.transport.embedded.transport import EmbeddedTransport
from tests.faults.workload import (
    CHUNKS,
    TOPIC,
    checkpoint_directory,
    checkpoint_of,
    checkpoint_path,
    frame_at,
    log_directory,
)
from tests.replacing import replace_attribute

FAILED = 3


class Victim:
    """The work of one process on one directory."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._root: Path = options.root
        self._options = options
        self._acks: int = options.acks
        self._logs: list[EmbeddedTransport] = []

    def acknowledge(self, what: str, detail: object) -> None:
        os.writev(self._acks, [f"{what} {detail}\n".encode()])

    async def run(self) -> int:
        try:
            await self._work()
        except SlstreamError as error:
            self.acknowledge("failed", type(error).__name__)
            sys.stderr.write(f"{error}\n")
            if isinstance(error, TransportBroken):
                await self._insist()
            return FAILED
        finally:
            for log in self._logs:
                await log.aclose()
        return 0

    async def _work(self) -> None:
        for name in self._options.durability.split(","):
            directory = log_directory(self._root)
            self._logs.append(await EmbeddedTransport.open(directory, durability=Durability(name)))
        await self._logs[0].create_topic(TOPIC)
        count = await self._logs[0].end_offset(TOPIC)
        for number in range(1, self._options.appends + 1):
            await self._append(number, count)
            count += CHUNKS
            if number % self._options.checkpoint_every == 0:
                await self._checkpoint(number // self._options.checkpoint_every, count)

    async def _append(self, number: int, count: int) -> None:
        turn = number % len(self._logs)
        if "order" in self._options.without:
            self.acknowledge("visible", count + CHUNKS)
        await self._logs[turn].append(TOPIC, frame_at(count))
        durable = self._options.durability.split(",")[turn] == Durability.STEP
        self.acknowledge("durable" if durable else "visible", count + CHUNKS)

    async def _checkpoint(self, number: int, count: int) -> None:
        if "flush" not in self._options.without:
            await self._logs[0].flush()
            self.acknowledge("flushed", count)
        if self._options.file_limit is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (self._options.file_limit,) * 2)
        path = checkpoint_path(self._root, number)
        if "rename" in self._options.without:
            path.write_bytes(checkpoint_of(count))
        else:
            write_atomically(path, checkpoint_of(count))
        self.acknowledge("checkpoint", count)

    async def _insist(self) -> None:
        """Use the log that has failed: nothing that this acknowledges may be believed."""
        for log in self._logs:
            try:
                count = await log.end_offset(TOPIC)
                await log.append(TOPIC, frame_at(count))
                self.acknowledge("durable", count + CHUNKS)
                await log.flush()
                self.acknowledge("flushed", count + CHUNKS)
            except SlstreamError:
                self.acknowledge("refused", TOPIC)


def make_small() -> None:
    """Let the rare things happen within a few appends: WAL moved, WAL cut, next segment."""
    writer._COMMITS_PER_CHECKPOINT = 5
    checkpointer._MAX_WAL_PAGES = 40
    segments.SEGMENT_BYTES = 20_000
    payload._MAX_UNSYNCED = 1


def fix_names() -> None:
    """Let temporary files have the same names in each run, so that faults can be aimed at them."""
    numbers = itertools.count()
    replace_attribute(os, "urandom", lambda size: next(numbers).to_bytes(size))


def do_nothing(*_: object) -> None:
    pass


def skip_fsync(skipped: Callable[[Path, int], bool]) -> None:
    """Do not sync the files of which ``skipped`` (path, mode) is true."""
    fsync = os.fsync

    def some_fsync(fd: int) -> None:
        if not skipped(Path(f"/proc/self/fd/{fd}").readlink(), os.fstat(fd).st_mode):
            fsync(fd)

    replace_attribute(os, "fsync", some_fsync)


def hide_sync_errors() -> None:
    """Go on after a sync that failed."""
    sync = segments.SegmentWriter.sync

    def quiet_sync(segment: segments.SegmentWriter) -> None:
        with contextlib.suppress(OSError):
            sync(segment)

    def quiet_sync_content(path: Path) -> None:
        with contextlib.suppress(OSError):
            folders.sync_content(path)

    replace_attribute(segments.SegmentWriter, "sync", quiet_sync)
    replace_attribute(forcing, "sync_content", quiet_sync_content)


def skip_forcing(suffix: str) -> None:
    """Leave the content of files whose name ends so to the kernel when the log is forced."""

    def sync_others(path: Path) -> None:
        if not path.name.endswith(suffix):
            folders.sync_content(path)

    replace_attribute(forcing, "sync_content", sync_others)


def skip_segments() -> None:
    """Leave the content of segments to the kernel."""
    replace_attribute(segments.SegmentWriter, "sync", do_nothing)
    skip_forcing(".segment")


def skip_segments_directory() -> None:
    """Leave the names of segments to the kernel."""
    replace_attribute(writer, "sync_file", do_nothing)
    replace_attribute(forcing, "sync_file", do_nothing)


def set_synchronous(mode: str) -> None:
    """Set it on every connection, whatever the product asks for."""

    def synchronous(index: Index, *, full: bool) -> None:
        index._db.execute(f"PRAGMA synchronous = {mode}")

    replace_attribute(Index, "synchronous", synchronous)


def weaken(without: list[str], root: Path) -> None:
    """Leave out what the promises rest on: for the negative controls."""
    folder = checkpoint_directory(root)
    weaknesses: dict[str, Callable[[], None]] = {
        "order": do_nothing,  # see Victim._append
        "flush": do_nothing,  # see Victim._checkpoint
        "rename": do_nothing,  # the same
        "sync-errors": hide_sync_errors,
        "segment-sync": skip_segments,
        "segments-directory-sync": skip_segments_directory,
        "wal-sync": lambda: skip_forcing("-wal"),
        "parents-sync": lambda: replace_attribute(folders, "sync_file", do_nothing),
        "full": lambda: set_synchronous("NORMAL"),
        "synchronous": lambda: set_synchronous("OFF"),
        "file-fsync": lambda: skip_fsync(
            lambda path, mode: path.is_relative_to(folder) and stat.S_ISREG(mode)
        ),
        "directory-fsync": lambda: skip_fsync(
            lambda path, mode: path.is_relative_to(folder) and stat.S_ISDIR(mode)
        ),
    }
    for name in without:
        weaknesses[name]()


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("root", type=Path)
    parser.add_argument("acks", type=int, help="the descriptor of a file")
    parser.add_argument("--durability", default="checkpoint", help="of each transport, with commas")
    parser.add_argument("--appends", type=int, default=12)
    parser.add_argument("--checkpoint-every", type=int, default=4)
    parser.add_argument("--file-limit", type=int, help="no file may grow above it in a checkpoint")
    parser.add_argument("--without", action="append", default=[])
    options = parser.parse_args()
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    make_small()
    fix_names()
    weaken(options.without, options.root)
    return asyncio.run(Victim(options).run())


if __name__ == "__main__":
    sys.exit(main())
