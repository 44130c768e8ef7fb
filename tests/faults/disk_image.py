"""What may be on the disk after a power cut: the files as POSIX, and nothing more, promises them.

A file's data and size are on the disk when it was synced; a name when its folder was. Until then
each write, each change of size and each name by itself may be there or not, in any order; of a
write there may be any of its sectors. A rename is a name that comes and one that goes. What is
promised by no standard but relied upon by SQLite too: bytes beside a write stay what they are.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from itertools import pairwise
from pathlib import Path, PurePosixPath
from random import Random

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

SECTOR = 512
PAGE = 4096


class Aspect(StrEnum):
    """What of a file may or may not have reached the disk."""

    DATA = "data"
    SIZE = "size"
    NAME = "name"


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """Something that is not known to be on the disk."""

    number: int
    """The place of its operation in the trace."""
    path: str
    aspect: Aspect


class Fate:
    """Decides what of the changes reached the disk. This one: those that ``kept`` says."""

    def __init__(self, name: str, kept: Callable[[Change], bool]) -> None:
        self.name = name
        self._kept = kept

    def parts(self, change: Change, start: int, end: int) -> Sequence[tuple[int, int]]:
        """The ranges of a write from ``start`` to ``end`` in its file that are on the disk."""
        return [(start, end)] if self._kept(change) else []

    def version(self, changes: Sequence[Change]) -> int:
        """How many of the changes of a name or size, one after the other, are on the disk."""
        kept = [i for i, change in enumerate(changes, 1) if self._kept(change)]
        return max(kept, default=0)

    def size(self, sizes: Sequence[int], version: int) -> int:
        """The size of a file, which had ``sizes`` one after the other."""
        return sizes[version]

    def fill(self, length: int) -> bytes:
        """What lies where nothing was written."""
        return bytes(length)


class Chance(Fate):
    """Any of all that may be, at random; how much of it is kept is a matter of chance as well."""

    def __init__(self, chance: Random) -> None:
        super().__init__("chance", lambda _: chance.random() < self._share)
        self._chance = chance
        self._share = chance.choice([0.1, 0.5, 0.5, 0.9])
        self._torn = chance.choice([0.0, 0.2, 0.6])
        self._garbage = chance.random() < 0.3

    def parts(self, change: Change, start: int, end: int) -> Sequence[tuple[int, int]]:
        if self._chance.random() < self._torn:
            return torn(self._chance, start, end)
        return super().parts(change, start, end)

    def version(self, changes: Sequence[Change]) -> int:
        return self._chance.randint(0, len(changes))

    def size(self, sizes: Sequence[int], version: int) -> int:
        size = sizes[version]
        before = sizes[version - 1] if version else size
        if before < size and self._chance.random() < 0.3:
            # Data is written back page by page, and the size follows it.
            return max(before, self._chance.randint(before // PAGE, size // PAGE) * PAGE)
        return size

    def fill(self, length: int) -> bytes:
        return self._chance.randbytes(length) if self._garbage else bytes(length)


class TornWrite(Fate):
    """All is kept, but of one operation's data only some sectors."""

    def __init__(self, number: int, chance: Random) -> None:
        super().__init__("newest torn", lambda change: change.number <= number)
        self._number = number
        self._chance = chance

    def parts(self, change: Change, start: int, end: int) -> Sequence[tuple[int, int]]:
        if change.number != self._number:
            return super().parts(change, start, end)
        return torn(self._chance, start, end)


def torn(chance: Random, start: int, end: int) -> Sequence[tuple[int, int]]:
    """Some of the sectors of a write: the first ones, the last ones, or any."""
    edges = [start, *range(start - start % SECTOR + SECTOR, end, SECTOR), end]
    sectors = list(pairwise(edges))
    middle = chance.randint(0, len(sectors))
    return chance.choice(
        [sectors[:middle], sectors[middle:], [each for each in sectors if chance.random() < 0.5]]
    )


@dataclass(frozen=True)
class Image:
    """A tree of files: the content by path, ``None`` for a folder."""

    files: Mapping[str, bytes | None] = field(repr=False)

    @cached_property
    def digest(self) -> bytes:
        """Equal for equal trees."""
        found = hashlib.sha256()
        for path, content in sorted(self.files.items()):
            found.update(f"{path}\0{-1 if content is None else len(content)}\0".encode())
            found.update(content or b"")
        return found.digest()

    def write(self, root: Path) -> None:
        """Put the tree below a directory that is created."""
        root.mkdir()
        for path, content in sorted(self.files.items()):
            if content is None:
                (root / path).mkdir()
            else:
                (root / path).write_bytes(content)

    @classmethod
    def read(cls, root: Path) -> Image:
        """The tree below a directory, without sockets and SQLite's shared memory."""
        return cls(
            {
                str(path.relative_to(root)): path.read_bytes() if path.is_file() else None
                for path in root.rglob("*")
                if (path.is_file() or path.is_dir()) and not path.name.endswith("-shm")
            }
        )


@dataclass(eq=False, slots=True)
class _File:
    durable: bytes = b""
    pending: list[tuple[int, Write | Resize]] = field(default_factory=list)


@dataclass(eq=False, slots=True)
class _Folder:
    entries: dict[str, _Node] = field(default_factory=dict)
    durable: dict[str, _Node] = field(default_factory=dict)
    pending: list[tuple[int, str, _Node | None]] = field(default_factory=list)

    def bind(self, number: int, name: str, node: _Node | None) -> None:
        self.pending.append((number, name, node))
        if node is None:
            del self.entries[name]
        else:
            self.entries[name] = node


_Node = _File | _Folder


class Disk:
    """A tree that operations are applied to, with what of it is on the disk and what may be."""

    def __init__(self, base: Image | None = None) -> None:
        """Start with a tree that is wholly on the disk."""
        self._root = _Folder()
        self.newest = -1
        """Number of the last operation that changed something."""
        for path, content in sorted(base.files.items()) if base else []:
            node = _Folder() if content is None else _File(durable=content)
            folder, name = self._place(path)
            folder.entries[name] = folder.durable[name] = node

    def apply(self, number: int, operation: Operation) -> None:
        """Do the ``number``-th operation of a trace."""
        match operation:
            case Write(path=path) | Resize(path=path):
                node = self._find(path)
                if not isinstance(node, _File):
                    raise TypeError(f"{path}: expected a file")
                node.pending.append((number, operation))
            case CreateFile(path=path):
                if self._has(path):
                    return
                self._bind(number, path, _File())
            case CreateFolder(path=path):
                self._bind(number, path, _Folder())
            case Unlink(path=path):
                self._bind(number, path, None)
            case Rename(source=source, target=target):
                self._bind(number, target, self._find(source))
                self._bind(number, source, None)
            case Sync(path=path, since=since):
                _sync(self._find(path), since)
                return
            case _:
                return
        self.newest = number

    def image(self, fate: Fate) -> Image:
        """The tree after a power cut now."""
        files: dict[str, bytes | None] = {}
        contents: dict[_File, bytes] = {}
        folders = [("", self._root)]
        while folders:
            prefix, folder = folders.pop()
            for name, node in _surviving(folder, prefix, fate).items():
                path = prefix + name
                if isinstance(node, _Folder):
                    files[path] = None
                    folders.append((f"{path}/", node))
                else:
                    if node not in contents:
                        contents[node] = _surviving_content(node, path, fate)
                    files[path] = contents[node]
        return Image(files)

    def _bind(self, number: int, path: str, node: _Node | None) -> None:
        folder, name = self._place(path)
        folder.bind(number, name, node)

    def _has(self, path: str) -> bool:
        folder, name = self._place(path)
        return name in folder.entries

    def _place(self, path: str) -> tuple[_Folder, str]:
        *parents, name = PurePosixPath(path).parts
        folder = self._root
        for each in parents:
            found = folder.entries[each]
            if not isinstance(found, _Folder):
                raise TypeError(f"{path}: {each} is a file")
            folder = found
        return folder, name

    def _find(self, path: str) -> _Node:
        if path == ".":
            return self._root
        folder, name = self._place(path)
        return folder.entries[name]


def _sync(node: _Node, since: int) -> None:
    if isinstance(node, _Folder):
        for number, name, bound in node.pending:
            if number < since:
                if bound is None:
                    node.durable.pop(name, None)
                else:
                    node.durable[name] = bound
        node.pending = [each for each in node.pending if each[0] >= since]
    else:
        data = bytearray(node.durable)
        for number, change in node.pending:
            if number < since:
                _change(data, change, [(0, 1 << 62)], bytes)
        node.durable = bytes(data)
        node.pending = [each for each in node.pending if each[0] >= since]


def _surviving(folder: _Folder, prefix: str, fate: Fate) -> dict[str, _Node]:
    found = dict(folder.durable)
    histories: dict[str, list[tuple[Change, _Node | None]]] = {}
    for number, name, node in folder.pending:
        change = Change(number=number, path=prefix + name, aspect=Aspect.NAME)
        histories.setdefault(name, []).append((change, node))
    for name, history in histories.items():
        version = fate.version([change for change, _ in history])
        node = history[version - 1][1] if version else folder.durable.get(name)
        if node is not None:
            found[name] = node
        else:
            found.pop(name, None)
    return found


def _surviving_content(file: _File, path: str, fate: Fate) -> bytes:
    data = bytearray(file.durable)
    sizes = [len(data)]
    changes = []
    for number, change in file.pending:
        of_data = Change(number=number, path=path, aspect=Aspect.DATA)
        changes.append(Change(number=number, path=path, aspect=Aspect.SIZE))
        if isinstance(change, Resize):
            sizes.append(change.length)
            parts = fate.parts(of_data, change.length, change.length + 1)
        else:
            end = change.offset + len(change.data)
            sizes.append(max(sizes[-1], end))
            parts = fate.parts(of_data, change.offset, end)
        _change(data, change, parts, fate.fill)
    size = fate.size(sizes, fate.version(changes))
    del data[size:]
    return bytes(data) + fate.fill(size - len(data))


def _change(
    data: bytearray,
    change: Write | Resize,
    parts: Sequence[tuple[int, int]],
    fill: Callable[[int], bytes],
) -> None:
    if not parts:
        return
    if isinstance(change, Resize):
        del data[change.length :]
        _extend(data, change.length, fill)
        return
    for part in parts:
        start = max(part[0], change.offset)
        end = min(part[1], change.offset + len(change.data))
        _extend(data, start, fill)
        data[start:end] = change.data[start - change.offset : end - change.offset]


def _extend(data: bytearray, length: int, fill: Callable[[int], bytes]) -> None:
    if length > len(data):
        data += fill(length - len(data))
