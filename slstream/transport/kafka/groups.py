"""How far readers have come, for the tools that show a consumer group's lag."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from functools import partial

from aiokafka.protocol.commit import OffsetCommitRequest_v3
from aiokafka.protocol.coordination import FindCoordinatorRequest_v1

from slstream.errors import TransportError
from slstream.transport.kafka.answers import check_answer
from slstream.transport.kafka.cluster import Cluster
from slstream.transport.kafka.wire import Exactly

COMMIT_S = 5.0
"""After which a commit is given up; the next one says more anyway."""

_GROUP = 0
_NO_MEMBER = (-1, "", -1)

_logger = logging.getLogger(__name__)


class Groups:
    """Commits offsets, the newest for each group at a time."""

    def __init__(self, cluster: Cluster) -> None:
        """Nothing is asked yet."""
        self._cluster = cluster
        self._wanted: dict[str, dict[str, int]] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def commit(self, group: str, offsets: Mapping[str, int]) -> None:
        """Have the offsets of these topics committed soon."""
        self._wanted.setdefault(group, {}).update(offsets)
        if group not in self._tasks:
            self._tasks[group] = asyncio.get_running_loop().create_task(self._run(group))

    async def finish(self) -> None:
        """Wait for what is on its way."""
        if self._tasks:
            await asyncio.wait(self._tasks.values())

    def stop(self) -> None:
        """Give up what is on its way."""
        for task in self._tasks.values():
            task.cancel()

    async def _run(self, group: str) -> None:
        try:
            while offsets := self._wanted.pop(group, None):
                try:
                    async with asyncio.timeout(COMMIT_S):
                        what = f"commit offsets of group {group}"
                        await self._cluster.insist(what, partial(self._send, group, offsets))
                except (TransportError, TimeoutError) as error:
                    why = str(error) or f"no answer within {COMMIT_S:g} s"
                    extra = {"group": group, "why": why}
                    _logger.warning("offsets not committed; lag tools show older ones", extra=extra)
        finally:
            del self._tasks[group]

    async def _send(self, group: str, offsets: Mapping[str, int]) -> None:
        found = await self._cluster.ask(Exactly(FindCoordinatorRequest_v1(group, _GROUP)))
        check_answer(found.error_code, "READ", f"group {group}", detail=found.error_message)
        topics = [(topic, [(0, offset, "")]) for topic, offset in offsets.items()]
        answer = await self._cluster.ask_one(
            (found.host, found.port), Exactly(OffsetCommitRequest_v3(group, *_NO_MEMBER, topics))
        )
        for topic, ((_, code),) in answer.topics:
            check_answer(code, "READ", f"{topic} in group {group}")
