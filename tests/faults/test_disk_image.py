from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from random import Random

from tests.faults.disk_image import PAGE, SECTOR, Aspect, Chance, Disk, Fate, Image, torn
from tests.faults.syscall_trace import (
    CreateFile,
    CreateFolder,
    Operation,
    Rename,
    Resize,
    Sync,
    Unlink,
    Write,
)

ALL = Fate("all", lambda _: True)
NOTHING = Fate("nothing", lambda _: False)


def after(*operations: Operation, base: Mapping[str, bytes | None] | None = None) -> Disk:
    disk = Disk(Image(base or {"a": b"old"}))
    for number, operation in enumerate(operations):
        disk.apply(number, operation)
    return disk


def outcomes(disk: Disk, tries: int = 300) -> set[tuple[tuple[str, bytes | None], ...]]:
    chance = Random(1)
    return {tuple(sorted(disk.image(Chance(chance)).files.items())) for _ in range(tries)}


def test_what_is_not_synced_may_be_there_or_not() -> None:
    disk = after(Write(path="a", offset=0, data=b"new"))
    assert outcomes(disk) == {(("a", b"old"),), (("a", b"new"),)}


def test_what_is_synced_stays() -> None:
    disk = after(
        Write(path="a", offset=0, data=b"new"),
        Sync(path="a", since=1),
        Write(path="a", offset=0, data=b"lost"),
    )
    assert disk.image(NOTHING).files == {"a": b"new"}
    assert disk.image(ALL).files == {"a": b"lost"}


def test_a_write_that_returned_during_a_sync_is_not_covered() -> None:
    disk = after(Write(path="a", offset=0, data=b"new"), Sync(path="a", since=0))
    assert disk.image(NOTHING).files == {"a": b"old"}


def test_a_file_and_its_name_are_synced_each_by_itself() -> None:
    create: list[Operation] = [CreateFile(path="b"), Write(path="b", offset=0, data=b"x")]
    assert "b" not in after(*create, Sync(path="b", since=2)).image(NOTHING).files
    assert after(*create, Sync(path=".", since=2)).image(NOTHING).files["b"] == b""


def test_a_folder_takes_all_below_with_it() -> None:
    disk = after(
        CreateFolder(path="d"), CreateFile(path="d/b"), Sync(path="d/b", since=2),
        Sync(path="d", since=2),
    )  # fmt: skip
    assert disk.image(NOTHING).files == {"a": b"old"}
    disk.apply(4, Sync(path=".", since=4))
    assert disk.image(NOTHING).files == {"a": b"old", "d": None, "d/b": b""}


def test_a_rename_may_come_before_the_bytes() -> None:
    disk = after(
        CreateFile(path=".a.tmp"),
        Write(path=".a.tmp", offset=0, data=b"new"),
        Rename(source=".a.tmp", target="a"),
    )
    found = {dict(each).get("a") for each in outcomes(disk)}
    assert {b"old", b"new", b"", b"\0\0\0"} <= found


def test_a_removed_file_may_come_back() -> None:
    disk = after(Unlink(path="a"))
    assert outcomes(disk) == {(), (("a", b"old"),)}


def test_a_size_may_come_without_the_data_and_the_data_without_a_cut() -> None:
    grown = after(Write(path="a", offset=3, data=b"123"))
    sizes = Fate("sizes", lambda change: change.aspect is not Aspect.DATA)
    assert grown.image(sizes).files == {"a": b"old\0\0\0"}
    cut = after(Resize(path="a", length=1))
    assert {dict(each)["a"] for each in outcomes(cut)} >= {b"o", b"old"}


def test_a_write_is_torn_at_sectors_and_harms_nothing_beside_it() -> None:
    old = bytes(3 * PAGE)
    start, data = 100, b"x" * (2 * PAGE)
    disk = after(Write(path="a", offset=start, data=data), base={"a": old})
    seen = set()
    for each in outcomes(disk):
        content = dict(each)["a"] or b""
        assert content[:start] == old[:start]
        assert content[start + len(data) :] == old[start + len(data) :]
        edges = [start, *range(SECTOR, start + len(data), SECTOR), start + len(data)]
        for left, right in pairwise(edges):
            assert len(set(content[left:right])) == 1
        seen.add(content)
    assert len(seen) > 20


def test_torn_covers_first_last_and_scattered_sectors() -> None:
    chance = Random(1)
    found = {tuple(torn(chance, 0, 4 * SECTOR)) for _ in range(300)}
    assert () in found
    assert ((0, SECTOR),) in found
    assert ((3 * SECTOR, 4 * SECTOR),) in found
    assert len(found) == 16
