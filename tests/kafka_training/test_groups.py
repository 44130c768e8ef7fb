"""Lag tools show how far parties have come: a consumer group each, as of its newest checkpoint."""

from __future__ import annotations

import uuid
from pathlib import Path

from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, TopicPartition
from confluent_kafka.admin import AdminClient

from slstream.frames.topics import consumer_group, link_topic
from tests.party.small_session import run_all, summary_of, topology

pytest_plugins = ["tests.kafka.fixtures"]


def committed(kafka: str, group: str) -> dict[str, int]:
    admin = AdminClient({"bootstrap.servers": kafka})
    answers = admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)])
    (found,) = [answer.result(timeout=20) for answer in answers.values()]
    return {place.topic: place.offset for place in found.topic_partitions}


def end_of(kafka: str, topic: str) -> int:
    consumer = Consumer({"bootstrap.servers": kafka, "group.id": "ends"})
    _, end = consumer.get_watermark_offsets(TopicPartition(topic, 0), timeout=20)
    consumer.close()
    return int(end)


def test_each_party_has_a_group_that_has_come_to_its_last_checkpoint(
    kafka: str, tmp_path: Path
) -> None:
    federation = f"groups-{uuid.uuid4().hex[:8]}"
    made = topology(tmp_path, federation=federation, transport=f"kafka://{kafka}")
    session = summary_of(run_all(tmp_path / "run", made)["alice"]).session
    for reader, sender in (("alice", "bob"), ("bob", "alice")):
        offsets = committed(kafka, consumer_group(federation, reader))
        topic = link_topic(federation, sender, reader, session)
        # After the last epoch's checkpoint come only the last words.
        assert set(offsets) == {topic}
        assert 0 <= end_of(kafka, topic) - offsets[topic] <= 2
        assert offsets[topic] > 5
