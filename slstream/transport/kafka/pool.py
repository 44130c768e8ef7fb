"""Writers and readers that are kept for their next use, as long as there are not too many."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Generic, Protocol, TypeVar

MOST = 32
"""What is kept open beside what is in use: more than a party of a large federation has links."""
IDLE_S = 60.0
"""After which something that is not in use is closed, when something else is used."""


class Busy(Protocol):
    """Something that must not be closed while it is in use."""

    @property
    def is_busy(self) -> bool:
        """Whether it is."""


P = TypeVar("P", bound=Busy)


class Pool(Generic[P]):
    """One object for each partition that is in use or was lately."""

    def __init__(
        self, make: Callable[[str, int], P], close: Callable[[P], Awaitable[None]]
    ) -> None:
        """It is empty.

        Args:
            make: of topic and partition.
            close: end one that is not in use.
        """
        self._make = make
        self._close = close
        self._kept: OrderedDict[tuple[str, int], tuple[P, float]] = OrderedDict()
        """Used longest ago first; with the time of the last use."""
        self._closing: set[asyncio.Future[None]] = set()

    def get(self, topic: str, partition: int) -> P:
        """The one for a partition."""
        key, now = (topic, partition), monotonic()
        found = self._kept.pop(key)[0] if key in self._kept else self._make(topic, partition)
        self._kept[key] = found, now
        self._let_go(now)
        return found

    def all(self) -> list[P]:
        """All that are kept."""
        return [each for each, _ in self._kept.values()]

    async def close(self) -> None:
        """Wait for those that are being closed; whoever calls has closed the others."""
        if self._closing:
            await asyncio.wait(self._closing)

    def _let_go(self, now: float) -> None:
        surplus = len(self._kept) - MOST
        for key, (each, used_at) in list(self._kept.items())[:-1]:
            if surplus <= 0 and now - used_at < IDLE_S:
                break
            if not each.is_busy:
                del self._kept[key]
                surplus -= 1
                closing = asyncio.ensure_future(self._close(each))
                self._closing.add(closing)
                closing.add_done_callback(self._closing.discard)
