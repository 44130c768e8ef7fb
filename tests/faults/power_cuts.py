"""The power fails, before any operation of a trace, and the disk is one of all that it may be."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from random import Random

from tests.faults.disk_image import Aspect, Chance, Change, Disk, Fate, Image, TornWrite
from tests.faults.promises import Promises, after_power_cut
from tests.faults.syscall_trace import Acknowledgement, Operation

ONE_KIND = (".segment", ".sqlite", "-wal", "-journal", ".checkpoint", ".tmp", "segments", "log")
"""Ends of the names of files of which all is lost, or nothing but them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerCut:
    """One plausible disk, and what must hold on it."""

    at: int
    """How many operations of the trace had returned."""
    fate: str
    image: Image
    promises: Promises

    def __str__(self) -> str:
        return f"power cut after operation {self.at}, fate {self.fate!r}, {self.promises}"


def power_cuts(
    operations: Sequence[Operation],
    *,
    seed: int,
    per_operation: int,
    base: Image | None = None,
    since: Promises | None = None,
) -> Iterator[PowerCut]:
    """Disks at every point of a trace, each pair of disk and promises once.

    At each point all that is pending is lost once; the other systematic fates take turns, and as
    many are drawn by chance.

    Args:
        operations: of one process.
        seed: of all that is random.
        per_operation: how many disks to try at each point, at most.
        base: the tree before the trace, all of it on the disk.
        since: what held of it.
    """
    chance = Random(seed)
    disk = Disk(base)
    promises = since or Promises()
    seen: set[tuple[bytes, Promises]] = set()
    turn = 0
    for at, operation in enumerate([*operations, None]):
        if isinstance(operation, Acknowledgement):
            promises = after_power_cut([operation.line], promises)
            continue
        systematic = _systematic(disk.newest, chance)
        chosen = [systematic[0]]
        for drawn in range(per_operation - 1):
            if drawn % 2:
                chosen.append(Chance(chance))
            else:
                turn += 1
                chosen.append(systematic[turn % len(systematic)])
        for fate in chosen:
            image = disk.image(fate)
            if (image.digest, promises) not in seen:
                seen.add((image.digest, promises))
                yield PowerCut(at=at, fate=fate.name, image=image, promises=promises)
        if operation is not None:
            disk.apply(at, operation)


def _systematic(newest: int, chance: Random) -> list[Fate]:
    name = Aspect.NAME
    fates = [
        Fate("all lost", lambda _: False),
        Fate("all kept", lambda _: True),
        Fate("newest lost", lambda change: change.number != newest),
        TornWrite(newest, chance),
        Fate("newest and names kept", lambda c: c.number == newest or c.aspect is name),
        Fate("data lost", lambda change: change.aspect is not Aspect.DATA),
        Fate("names kept", lambda change: change.aspect is name),
        Fate("names lost", lambda change: change.aspect is not name),
    ]
    for end in ONE_KIND:
        fates += [
            Fate(f"content of {end} lost", _spares(names=True, end=end, kept=False)),
            Fate(f"content of {end} kept", _spares(names=True, end=end, kept=True)),
            Fate(f"names of {end} lost", _spares(names=False, end=end, kept=False)),
            Fate(f"names of {end} kept", _spares(names=False, end=end, kept=True)),
        ]
    return fates


def _spares(*, names: bool, end: str, kept: bool) -> Callable[[Change], bool]:
    """Keeps all names, or all content; of the other, one kind of files alone is kept, or lost."""

    def keeps(change: Change) -> bool:
        return (change.aspect is Aspect.NAME) == names or change.path.endswith(end) == kept

    return keeps
