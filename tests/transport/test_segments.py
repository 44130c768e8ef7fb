from __future__ import annotations

import os
from pathlib import Path

import pytest

from slstream.transport.embedded.segments import (
    SegmentReader,
    SegmentWriter,
    remove_if_unused,
    segment_path,
)


def test_values_lie_one_after_the_other(tmp_path: Path) -> None:
    writer = SegmentWriter(tmp_path, 1)
    values = [b"%d" % i * (i % 5) for i in range(3000)] + [b"x" * 70_000, b"y", b"z" * 65_535]
    assert writer.append(values[:10]) == 0
    assert writer.append(values[10:]) == sum(map(len, values[:10]))
    writer.close()
    assert segment_path(tmp_path, 1).read_bytes() == b"".join(values)


def test_short_writes_are_completed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pwrite = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, at: pwrite(fd, bytes(data[:3]), at))
    writer = SegmentWriter(tmp_path, 1)
    assert writer.append([b"first", b"", b"second", b"third"]) == 0
    assert writer.append([b"x"]) == 16
    assert segment_path(tmp_path, 1).read_bytes() == b"firstsecondthirdx"
    writer.close()


def test_garbage_of_the_same_name_is_replaced(tmp_path: Path) -> None:
    segment_path(tmp_path, 1).write_bytes(b"from before the power cut")
    writer = SegmentWriter(tmp_path, 1)
    writer.append([b"new"])
    writer.close()
    assert segment_path(tmp_path, 1).read_bytes() == b"new"


def test_a_file_in_use_is_not_removed(tmp_path: Path) -> None:
    writer = SegmentWriter(tmp_path, 1)
    assert not remove_if_unused(tmp_path, 1)
    writer.close()
    assert remove_if_unused(tmp_path, 1)
    assert not segment_path(tmp_path, 1).exists()
    assert remove_if_unused(tmp_path, 1), "what is gone is removed"


def test_reading_keeps_few_files_open_and_survives_their_removal(tmp_path: Path) -> None:
    for segment in range(1, 9):
        segment_path(tmp_path, segment).write_bytes(b"segment %d" % segment)
    reader = SegmentReader(tmp_path, keep=3)
    for _ in range(2):
        for segment in range(1, 9):
            assert reader.read(segment, 8, 1) == b"%d" % segment
    segment_path(tmp_path, 8).unlink()
    segment_path(tmp_path, 1).unlink()
    assert reader.read(8, 0, 9) == b"segment 8"
    with pytest.raises(FileNotFoundError):
        reader.read(1, 0, 1)
    assert reader.read(7, 8, 100) == b"7", "fewer bytes than asked for at the end"
    reader.close()


def test_cached_bytes_or_none(tmp_path: Path) -> None:
    segment_path(tmp_path, 1).write_bytes(b"just written, so it is in the page cache")
    reader = SegmentReader(tmp_path)
    with pytest.raises(BlockingIOError, match="4 of 10"):
        reader.read_cached(1, 36, 10)
    assert reader.read_cached(1, 5, 7) == b"written"
    reader.close()
