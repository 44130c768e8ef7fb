"""What a traced process did to the files below one directory, in the order in which it was done.

Reads what ``strace -f -y -xx`` has written. A call counts from its return on; a sync covers what
had returned before it was called. All strings are in hexadecimal, so bytes are exact, and commas
and brackets are strace's own.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_CALLS = """
    open openat creat write writev pwrite64 pwritev pwritev2 lseek ftruncate truncate fallocate
    fsync fdatasync sync_file_range rename renameat renameat2 unlink unlinkat mkdir mkdirat
    rmdir link linkat symlink symlinkat copy_file_range sendfile mmap
"""
CALLS = tuple(_CALLS.split())
"""All that change files, so that one that is not understood is noticed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Write:
    path: str
    offset: int
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Resize:
    path: str
    length: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateFile:
    """Opened with O_CREAT; the file may have been there."""

    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateFolder:
    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Rename:
    source: str
    target: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Unlink:
    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Sync:
    """fsync or fdatasync of a file or folder."""

    path: str
    since: int
    """How many operations had returned when it was called."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Acknowledgement:
    """A line that the process wrote to its acknowledgements."""

    line: str


Operation = Write | Resize | CreateFile | CreateFolder | Rename | Unlink | Sync | Acknowledgement
"""Paths are relative to the directory; the directory itself is ``.``."""


class NotUnderstoodError(Exception):
    """The trace holds a call on our files that no operation stands for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One line of a trace; of a call that was interrupted, its two lines joined."""

    thread: int
    name: str
    arguments: str
    result: str
    started: int
    """How many calls had returned when it was called."""
    injected: bool

    @property
    def failed(self) -> bool:
        return self.result.startswith(("-1 ", "?"))


_LINE = re.compile(r"(\d+) +(?:<\.\.\. \w+ resumed>)?(.*)")
_CALL = re.compile(r"(\w+)\((.*)\) += (.+)")
_UNFINISHED = " <unfinished ...>"


def calls(text: str) -> Iterator[Call]:
    """The calls of a trace in the order of their return; those that never returned at the end."""
    open_calls: dict[int, tuple[str, int]] = {}
    returned = 0
    for line in text.splitlines():
        found = _LINE.fullmatch(line)
        if found is None:
            continue
        thread, rest = int(found[1]), found[2]
        before, started = open_calls.pop(thread, ("", returned))
        if rest.endswith(_UNFINISHED):
            open_calls[thread] = (rest.removesuffix(_UNFINISHED), returned)
            continue
        call = _CALL.fullmatch(before + rest)
        if call is not None:
            name, arguments, result = call.groups()
            yield Call(
                thread=thread,
                name=name,
                arguments=arguments,
                result=result,
                started=started,
                injected="(INJECTED" in result,
            )
            returned += 1
    for thread, (before, started) in open_calls.items():
        name, _, arguments = before.partition("(")
        yield Call(
            thread=thread,
            name=name,
            arguments=arguments,
            result="?",
            started=started,
            injected=False,
        )


def operations(text: str, root: Path, acknowledgements: Path) -> list[Operation]:
    """The operations of one traced process below ``root``.

    Raises:
        NotUnderstoodError: a call changes a file in a way that is not modelled.
    """
    reading = _Reading(root, acknowledgements)
    for call in calls(text):
        reading.returned.append(len(reading.operations))
        if not call.failed:
            reading.add(call)
    return reading.operations


class _Reading:
    def __init__(self, root: Path, acknowledgements: Path) -> None:
        self._root = root
        self._acknowledgements = acknowledgements
        self._positions: dict[str, int] = {}
        self.operations: list[Operation] = []
        self.returned: list[int] = []
        """How many operations there were when the n-th call returned."""

    def add(self, call: Call) -> None:
        if call.name == "writev" and path_of(call.arguments) == self._acknowledgements:
            lines = b"".join(strings_of(call.arguments)).decode().splitlines()
            self.operations += [Acknowledgement(line=line) for line in lines]
            return
        self.operations += self._operations(call)

    def _operations(self, call: Call) -> list[Operation]:
        arguments = call.arguments.split(", ")
        match call.name:
            case "openat" | "open":
                return self._opened(call, arguments)
            case "rename" | "renameat" | "renameat2":
                return self._renamed(call)
        path = self._ours(path_of(call.arguments))
        match call.name:
            case _ if path is None:
                return []
            case "pwrite64":
                data = strings_of(arguments[1])[0][: int(call.result)]
                return [Write(path=path, offset=int(arguments[3]), data=data)]
            case "write":
                fd = arguments[0].partition("<")[0]
                data = strings_of(arguments[1])[0][: int(call.result)]
                offset = self._positions[fd]
                self._positions[fd] += len(data)
                return [Write(path=path, offset=offset, data=data)]
            case "lseek":
                self._positions[arguments[0].partition("<")[0]] = int(call.result)
                return []
            case "ftruncate":
                return [Resize(path=path, length=int(arguments[1]))]
            case "fsync" | "fdatasync":
                since = self.returned[call.started] if call.started else 0
                return [Sync(path=path, since=since)]
            case "mkdir":
                return [CreateFolder(path=path)]
            case "unlink" | "unlinkat":
                return [Unlink(path=path)]
            case "mmap" if "PROT_WRITE" not in call.arguments or "MAP_SHARED" not in arguments:
                return []
        raise NotUnderstoodError(f"{call.name} of {path} in a trace: {call.arguments[:200]}")

    def _opened(self, call: Call, arguments: list[str]) -> list[Operation]:
        path = self._ours(path_of(call.result))
        if path is None:
            return []
        flags = arguments[2 if call.name == "openat" else 1].split("|")
        if "O_APPEND" in flags:
            raise NotUnderstoodError(f"{path} is opened with O_APPEND")
        self._positions[call.result.partition("<")[0]] = 0
        created: list[Operation] = [CreateFile(path=path)] if "O_CREAT" in flags else []
        return created + ([Resize(path=path, length=0)] if "O_TRUNC" in flags else [])

    def _renamed(self, call: Call) -> list[Operation]:
        places = strings_of(call.arguments)
        if len(places) != 2 or not all(place.startswith(b"/") for place in places):
            return []  # Sockets, relative to a descriptor: see _ours.
        source, target = (self._ours(Path(os.fsdecode(place))) for place in places)
        if source is None and target is None:
            return []
        if source is None or target is None:
            raise NotUnderstoodError(f"a rename across the border of {self._root}")
        return [Rename(source=source, target=target)]

    def _ours(self, path: Path | None) -> str | None:
        """A path relative to the root; ``None`` for what no power cut can harm.

        That is SQLite's shared memory, which is rebuilt from the WAL, and the sockets.
        """
        if path is None or not path.is_relative_to(self._root):
            return None
        own = path.relative_to(self._root)
        if own.name.endswith("-shm") or own.parent.name == "wake":
            return None
        return str(own)


_ESCAPED = re.compile(r'"((?:\\x[0-9a-f]{2})*)"(\.\.\.)?')
_BEHIND_DESCRIPTOR = re.compile(r"\d+<((?:\\x[0-9a-f]{2})+)>")


def strings_of(arguments: str) -> list[bytes]:
    """The strings among a call's arguments."""
    found = []
    for escaped, cut in _ESCAPED.findall(arguments):
        if cut:
            raise NotUnderstoodError("strace was not asked for whole strings (-s)")
        found.append(_unescaped(escaped))
    return found


def path_of(text: str) -> Path | None:
    """What a call's first argument names: the file behind a descriptor, or an absolute path."""
    if behind := _BEHIND_DESCRIPTOR.match(text):
        return Path(os.fsdecode(_unescaped(behind[1])))
    if text[:1].isdigit():
        return None  # A pipe or the like.
    if named := _ESCAPED.search(text):
        path = Path(os.fsdecode(_unescaped(named[1])))
        return path if path.is_absolute() else None
    return None


def _unescaped(text: str) -> bytes:
    return bytes.fromhex(text.replace("\\x", ""))
