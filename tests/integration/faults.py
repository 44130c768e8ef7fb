"""What a process does to itself at an exact place of its work: a real signal, once.

A fault is installed in a party's process before its program starts. So the place is met to the
instruction, however busy the machine is; a signal from outside comes a little later each time.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from slstream.party import atomic_file, party_files
from slstream.protocol.messages import decode_message
from slstream.transport.contract import Record, StoredRecord
from slstream.transport.embedded.transport import EmbeddedTransport, _Job
from tests.replacing import replace_attribute

HEADER_BYTES = 40


def kind_of(record: Record | StoredRecord) -> str:
    """A frame's kind; for a control frame or a record of the lobby the type of its message."""
    kind = dict(record.headers).get("kind", b"").decode()
    if kind == "lobby":
        return decode_message(record.value).type
    return decode_message(record.value[HEADER_BYTES:]).type if kind == "control" else kind


def step_of(record: Record | StoredRecord) -> str:
    """``epoch/step`` of a training or evaluation frame, empty otherwise."""
    step = dict(record.headers).get("step", b"").decode()
    return "" if step == "0/0" else step


@dataclass(frozen=True, slots=True, kw_only=True)
class AtAppend:
    """A signal before or after one append of this process."""

    topic: str
    """Part of the topic's name: ``.bob-to-alice.``, ``.lobby``."""
    kind: str
    """As :func:`kind_of`, ``fence`` for a new incarnation's first record; empty: any."""
    step: str = ""
    """As :func:`step_of`."""
    before: bool = False
    number: signal.Signals = signal.SIGKILL

    def __str__(self) -> str:
        side = "before" if self.before else "after"
        return " ".join(filter(None, [side, self.topic.strip("."), self.kind, self.step]))

    def install(self) -> None:
        """Arm it in this process."""
        original, fault, armed = EmbeddedTransport.append, self, [True]

        async def append(
            transport: EmbeddedTransport,
            topic: str,
            records: Sequence[Record],
            *,
            partition: int = 0,
        ) -> int:
            hit = bool(armed) and fault._is_at(topic, records[0])
            if hit:
                armed.clear()
            if hit and fault.before:
                fault._send(transport)
            offset = await original(transport, topic, records, partition=partition)
            if hit and not fault.before:
                fault._send(transport)
            return offset

        replace_attribute(EmbeddedTransport, "append", append)

    def _send(self, transport: EmbeddedTransport) -> None:
        if self.number == signal.SIGSTOP:
            _finish_what_is_queued(transport)
        os.kill(os.getpid(), self.number)

    def _is_at(self, topic: str, record: Record) -> bool:
        if self.topic not in topic:
            return False
        return self.kind in ("", kind_of(record)) and self.step in ("", step_of(record))


def _finish_what_is_queued(transport: EmbeddedTransport) -> None:
    """Let a log's threads come to rest, while the event loop asks nothing new of them.

    A process that is stopped while one of them holds the write lock holds up all others: see
    ``tests/transport/test_stuck.py``. Twice, as the writer may still enforce retention after the
    first time, which it does once a second.
    """
    for worker in transport._workers * 2:
        reached = threading.Event()
        worker.put(_Job(run=reached.set, future=None))
        assert reached.wait(30), "a thread of the log does not come to rest"


@dataclass(frozen=True, slots=True, kw_only=True)
class AtFile:
    """SIGKILL while a file is written, when a part of its temporary file is on the disk."""

    name: str
    """End of the path, for instance ``00001-0000005.safetensors``; empty: the first file."""
    share: float = 0.5
    """Of the content; 1: all of it, but it is not renamed."""

    def __str__(self) -> str:
        return f"within {self.name or 'the first file'} ({self.share:.0%})"

    def install(self) -> None:
        """Arm it in this process."""
        original = atomic_file.write_atomically

        def write_atomically(path: Path, data: bytes) -> None:
            if not str(path).endswith(self.name):
                original(path, data)
                return
            path.parent.mkdir(parents=True, exist_ok=True)
            part = data[: int(self.share * len(data))]
            path.with_name(f".{path.name}.{os.getpid()}.tmp").write_bytes(part)
            os.kill(os.getpid(), signal.SIGKILL)

        replace_attribute(party_files, "write_atomically", write_atomically)


class Fault(Protocol):
    """What a process is to suffer from its beginning on."""

    def install(self) -> None:
        """Arm it in this process."""
