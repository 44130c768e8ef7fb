from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from slstream.errors import TransportBroken
from slstream.transport.embedded import payload, segments
from slstream.transport.embedded.payload import Payload
from tests.transport.logs import append, open_log, read_all, run, values


@pytest.fixture(autouse=True)
def small_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segments, "SEGMENT_BYTES", 100)
    monkeypatch.setattr(payload, "_MAX_UNSYNCED", 2)


def test_full_segments_are_left_and_kept_open_until_they_are_synced(tmp_path: Path) -> None:
    files = Payload(tmp_path)
    assert files.active() is None
    for segment in (1, 2, 3):
        files.start(segment).append([b"x" * 100])
        assert files.active() is None
        overdue = files.overdue()
        assert (overdue.segment if overdue else None) == (1 if segment == 3 else None)
    assert [file.segment for file in files._unsynced] == [1, 2, 3]
    files.discard([1])
    assert files.overdue() is None
    files.close_synced({2: 100, 3: 99})
    assert [file.segment for file in files._unsynced] == [3], "its last byte is not synced"
    files.close()


def test_a_log_of_many_segments(tmp_path: Path) -> None:
    async def body() -> None:
        expected = [b"%d" % i * 30 for i in range(40)]
        async with await open_log(tmp_path) as log:
            await log.create_topic("t")
            await append(log, "t", expected)
            assert len(log._writer._payload._unsynced) == 2
            await log.flush()
            await log.create_topic("t")  # behind what the flush left for the writer to do
            assert log._writer._payload._unsynced == []
            assert values(await read_all(log, "t")) == expected

    run(body())


def test_a_failed_sync_of_an_old_segment_is_told_to_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(fd: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    async def body() -> None:
        async with await open_log(tmp_path) as log, await open_log(tmp_path) as other:
            await log.create_topic("t")
            with monkeypatch.context() as patch:
                patch.setattr(os, "fdatasync", fail)
                with pytest.raises(TransportBroken, match="Input/output"):
                    await append(log, "t", [b"x" * 100] * 10)
            with pytest.raises(TransportBroken, match="an earlier attempt"):
                await other.flush()

    run(body())
