from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.syscall_trace import (
    Acknowledgement,
    CreateFile,
    CreateFolder,
    NotUnderstoodError,
    Operation,
    Rename,
    Resize,
    Sync,
    Unlink,
    Write,
    operations,
)


def hexed(text: str) -> str:
    return "".join(f"\\x{byte:02x}" for byte in text.encode())


def read(*lines: str) -> list[Operation]:
    """Operations of lines in which «text» stands for its hexadecimal form."""
    text = "\n".join(lines) + "\n"
    while "«" in text:
        before, _, rest = text.partition("«")
        inner, _, after = rest.partition("»")
        text = before + hexed(inner) + after
    return operations(text, Path("/r"), Path("/acks"))


def test_calls_become_operations() -> None:
    assert read(
        '10    mkdir("«/r/d»", 0777) = 0',
        '10    openat(AT_FDCWD<«/w»>, "«/r/d/a»", O_WRONLY|O_CREAT|O_TRUNC|O_CLOEXEC, 0666) '
        "= 3<«/r/d/a»>",
        '10    write(3<«/r/d/a»>, "«abc»", 3) = 3',
        '10    write(3<«/r/d/a»>, "«defg»", 4) = 2',
        '10    pwrite64(3<«/r/d/a»>, "«x»", 1, 4096) = 1',
        "10    ftruncate(3<«/r/d/a»>, 7) = 0",
        "10    fsync(3<«/r/d/a»>) = 0",
        '10    rename("«/r/d/a»", "«/r/d/b»") = 0',
        '10    unlink("«/r/d/b»") = 0',
        '10    unlink("«/elsewhere»") = 0',
        '10    mkdir("«/r/e»", 0777) = -1 EEXIST (File exists)',
        '10    writev(9<«/acks»>, [{iov_base="«durable 2\n»", iov_len=10}], 1) = 10',
    ) == [
        CreateFolder(path="d"),
        CreateFile(path="d/a"),
        Resize(path="d/a", length=0),
        Write(path="d/a", offset=0, data=b"abc"),
        Write(path="d/a", offset=3, data=b"de"),
        Write(path="d/a", offset=4096, data=b"x"),
        Resize(path="d/a", length=7),
        Sync(path="d/a", since=7),
        Rename(source="d/a", target="d/b"),
        Unlink(path="d/b"),
        Acknowledgement(line="durable 2"),
    ]


def test_a_sync_covers_what_had_returned_before_it_was_called() -> None:
    assert read(
        '1 pwrite64(3<«/r/a»>, "«x»", 1, 0) = 1',
        "1 fsync(3<«/r/a»> <unfinished ...>",
        '2 pwrite64(3<«/r/a»>, "«y»", 1, 1) = 1',
        "1 <... fsync resumed>) = 0",
    )[-1] == Sync(path="a", since=1)


def test_shared_memory_and_sockets_are_left_out() -> None:
    assert (
        read(
            '1 pwrite64(3<«/r/index.sqlite-shm»>, "«x»", 1, 0) = 1',
            '1 unlink("«/r/wake/1.socket»") = 0',
        )
        == []
    )


@pytest.mark.parametrize(
    "line",
    [
        "1 fallocate(3<«/r/a»>, 0, 0, 9) = 0",
        "1 mmap(3<«/r/a»>, 9, PROT_READ|PROT_WRITE, MAP_SHARED, 3<«/r/a»>, 0) = 0x1",
        '1 pwrite64(3<«/r/a»>, "«x»"..., 9, 0) = 9',
        '1 rename("«/r/a»", "«/b»") = 0',
    ],
)
def test_what_is_not_modelled_is_an_error(line: str) -> None:
    with pytest.raises(NotUnderstoodError):
        read(line)
