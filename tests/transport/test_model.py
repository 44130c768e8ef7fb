"""The embedded transport against a dictionary, over histories that hypothesis makes up."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from slstream.errors import OffsetOutOfRange, TopicExists, UnknownTopic
from slstream.transport.contract import Durability, Record, TopicConfig
from slstream.transport.embedded.transport import EmbeddedTransport
from tests.transport.logs import read_all

T = TypeVar("T")

NAMES = st.sampled_from(["a", "b", "a.b"])
RECORDS = st.lists(
    st.builds(
        Record,
        value=st.binary(max_size=50),
        key=st.none() | st.binary(max_size=5),
        headers=st.lists(st.tuples(st.text(max_size=3), st.binary(max_size=3)), max_size=2).map(
            tuple
        ),
    ),
    min_size=1,
    max_size=5,
)
HANDLE = st.integers(0, 1)
PARTITION = st.integers(0, 1)


class LogModel(RuleBasedStateMachine):
    """Two transport objects, one log, and lists that say what it must hold."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.path = Path(tempfile.mkdtemp(prefix="slstream-model-"))
        self.model: dict[str, list[list[Record]]] = {}
        self.logs = [
            self.run(EmbeddedTransport.open(self.path)),
            self.run(EmbeddedTransport.open(self.path, durability=Durability.STEP)),
        ]

    def run(self, body: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(body)

    @rule(handle=HANDLE, name=NAMES, partitions=st.integers(1, 2))
    def create(self, handle: int, name: str, partitions: int) -> None:
        call = self.logs[handle].create_topic(name, TopicConfig(partitions=partitions))
        if name in self.model and len(self.model[name]) != partitions:
            with pytest.raises(TopicExists):
                self.run(call)
        else:
            self.run(call)
            self.model.setdefault(name, [[] for _ in range(partitions)])

    @rule(handle=HANDLE, name=NAMES)
    def delete(self, handle: int, name: str) -> None:
        if name in self.model:
            self.run(self.logs[handle].delete_topic(name))
            del self.model[name]
        else:
            with pytest.raises(UnknownTopic):
                self.run(self.logs[handle].delete_topic(name))

    @rule(handle=HANDLE, name=NAMES, partition=PARTITION, records=RECORDS)
    def append(self, handle: int, name: str, partition: int, records: list[Record]) -> None:
        call = self.logs[handle].append(name, records, partition=partition)
        if partition < len(self.model.get(name, [])):
            assert self.run(call) == len(self.model[name][partition])
            self.model[name][partition] += records
        else:
            with pytest.raises(UnknownTopic):
                self.run(call)

    @rule(
        handle=HANDLE,
        name=NAMES,
        offset=st.integers(-1, 12),
        limit=st.integers(1, 4),
        max_bytes=st.integers(1, 120),
    )
    def read(self, handle: int, name: str, offset: int, limit: int, max_bytes: int) -> None:
        call = self.logs[handle].read(name, offset, max_records=limit, max_bytes=max_bytes)
        if name not in self.model:
            with pytest.raises(UnknownTopic):
                self.run(call)
            return
        expected = self.model[name][0]
        if not 0 <= offset <= len(expected):
            with pytest.raises(OffsetOutOfRange):
                self.run(call)
            return
        found = self.run(call)
        assert [(r.value, r.key, r.headers) for r in found] == [
            (r.value, r.key, r.headers) for r in expected[offset : offset + len(found)]
        ]
        assert bool(found) == (offset < len(expected))
        assert len(found) <= limit
        assert len(found) <= 1 or sum(len(r.value) for r in found) <= max_bytes

    @rule(handle=HANDLE)
    def flush(self, handle: int) -> None:
        self.run(self.logs[handle].flush())

    @rule(handle=HANDLE)
    def reopen(self, handle: int) -> None:
        self.run(self.logs[handle].aclose())
        self.logs[handle] = self.run(EmbeddedTransport.open(self.path))

    @invariant()
    def both_see_the_same(self) -> None:
        for log in self.logs:
            assert self.run(log.topics()) == sorted(self.model)
            for name, partitions in self.model.items():
                for number, records in enumerate(partitions):
                    assert self.run(log.end_offset(name, partition=number)) == len(records)

    def teardown(self) -> None:
        for name, partitions in self.model.items():
            for number, records in enumerate(partitions):
                found = self.run(read_all(self.logs[0], name, number))
                assert [r.value for r in found] == [r.value for r in records]
        for log in self.logs:
            self.run(log.aclose())
        self.runner.close()
        shutil.rmtree(self.path)


TestLogModel = LogModel.TestCase
TestLogModel.settings = settings(
    max_examples=15,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
