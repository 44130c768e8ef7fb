"""Looks at a session's log from outside, with a client that shares no code with the parties'."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import monotonic

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka import Message as KafkaMessage

from slstream.frames.link import FrameReader
from slstream.frames.topics import link_topic, lobby_topic
from tests.kafka.login import Login

PATIENCE_S = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What a reader makes of a link."""

    records: int
    frames: int
    duplicates: int
    """Records whose frame was there before, fences among them."""
    fences: int
    ignored: int
    """Records of processes that had been replaced."""


class Watcher:
    """Follows a session's topics."""

    def __init__(self, login: Login, federation: str) -> None:
        self._options = {
            **login.settings().librdkafka_options(),
            "group.id": "watcher",
            "enable.auto.commit": False,
            "log_level": 0,  # brokers that are away are expected
            "reconnect.backoff.max.ms": 200,
            "topic.metadata.refresh.interval.ms": 1000,
        }
        self._federation = federation
        self._place = 0
        self._session: str | None = None

    def session(self, check: Callable[[], None] = lambda: None) -> str:
        """The first session's id, as soon as there is one; no broker is asked again."""
        if self._session is not None:
            return self._session
        for message in self._follow(lobby_topic(self._federation), 0, check):
            fields = json.loads(message.value() or b"")
            if fields["type"] == "announce":
                self._session = str(fields["session"])
                return self._session
        raise AssertionError("the lobby has an end")

    def topic(self, sender: str, receiver: str) -> str:
        """A link's."""
        return link_topic(self._federation, sender, receiver, self.session())

    def wait_for(self, step: str, check: Callable[[], None]) -> int:
        """Wait for bob's activation of ``epoch/step``; its offset.

        Args:
            step: after those that were waited for before.
            check: called while nothing comes; raises when nothing will.
        """
        topic = link_topic(self._federation, "bob", "alice", self.session(check))
        for message in self._follow(topic, self._place, check):
            headers = dict(message.headers() or [])
            self._place = (message.offset() or 0) + 1
            if headers.get("kind") == b"activation" and headers.get("step") == step.encode():
                return self._place - 1
        raise AssertionError("a topic has an end")

    def end(self, topic: str) -> int:
        """The offset after the last record."""
        with self._consumer() as consumer:
            return self._end(consumer, topic)

    def wait_beyond(self, topic: str, offset: int) -> None:
        """Wait until there is a record at an offset."""
        next(self._follow(topic, offset, lambda: None))

    def link(self, sender: str, receiver: str) -> Seen:
        """All that is in a link now."""
        reader, topic = FrameReader(), self.topic(sender, receiver)
        with self._consumer() as consumer:
            left = self._end(consumer, topic)
        for message in self._follow(topic, 0, lambda: None):
            reader.push(message.value() or b"")
            if message.offset() == left - 1:
                break
        counted = reader.statistics
        return Seen(
            records=counted.records,
            frames=counted.frames,
            duplicates=counted.duplicates,
            fences=reader.fences,
            ignored=counted.fenced,
        )

    def _end(self, consumer: Consumer, topic: str) -> int:
        deadline = monotonic() + PATIENCE_S
        while True:
            try:
                _, end = consumer.get_watermark_offsets(TopicPartition(topic, 0), timeout=5)
            except KafkaException:
                assert monotonic() < deadline, f"{topic} could not be looked at"
                continue
            return int(end)

    def _follow(self, topic: str, offset: int, check: Callable[[], None]) -> Iterator[KafkaMessage]:
        deadline = monotonic() + PATIENCE_S
        with self._consumer() as consumer:
            consumer.assign([TopicPartition(topic, 0, offset or OFFSET_BEGINNING)])
            while True:
                message = consumer.poll(0.2)
                if message is None or message.error() is not None:
                    check()
                    assert monotonic() < deadline, f"{topic} did not grow in {PATIENCE_S} s"
                    code = message.error() if message is not None else None
                    if code is not None and code.code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
                        consumer.assign([TopicPartition(topic, 0, offset or OFFSET_BEGINNING)])
                    continue
                yield message

    @contextmanager
    def _consumer(self) -> Iterator[Consumer]:
        consumer = Consumer(self._options)
        try:
            yield consumer
        finally:
            consumer.close()
