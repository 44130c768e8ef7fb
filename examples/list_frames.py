"""List the frames of a session in a Kafka log, with confluent-kafka and nothing of slstream.

    python examples/list_frames.py SESSION bootstrap.servers=localhost:9092 [OPTION=VALUE ...]

`slstream sessions` tells the ids of sessions; the options are librdkafka's, for instance
security.protocol. A line is one record: a frame, or a part of one that is above 512 KiB. Each
begins with the 40 bytes of slstream/frames/header.py; the first five are Confluent's wire format.
"""

import struct
import sys

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition

HEADER = struct.Struct(">xIBBBIQHIHHHHIH")

if len(sys.argv) < 3:
    sys.exit(__doc__)
session, *options = sys.argv[1:]
settings = {
    "group.id": "list-frames",
    "enable.auto.commit": False,
    "enable.partition.eof": True,
    "log_level": 2,  # without a line for each attempt to connect
}
consumer = Consumer({**settings, **dict(option.split("=", 1) for option in options)})
try:
    names = consumer.list_topics(timeout=10).topics
except KafkaException as error:
    sys.exit(f"expected an answer of the broker within 10 s: {error}")
left = {name for name in names if "-to-" in name and name.endswith(f".{session}")}
if not left:
    sys.exit(f"expected links of a session {session!r}, found none")
consumer.assign([TopicPartition(name, 0, OFFSET_BEGINNING) for name in left])
while left:
    record = consumer.poll(10)
    if record is None:
        sys.exit("expected an answer of the broker within 10 s, found none")
    error = record.error()
    if error is None:
        schema_id, *_, chunk, chunks, payload_bytes, _ = HEADER.unpack_from(record.value())
        headers = {name: value.decode() for name, value in record.headers()}
        print(
            f"{record.topic()} offset={record.offset()} timestamp={record.timestamp()[1]} "
            f"key={record.key().decode()} kind={headers['kind']} step={headers.get('step', '-')} "
            f"schema={schema_id} chunk={chunk + 1}/{chunks} "
            f"record_bytes={len(record.value())} payload_bytes={payload_bytes}"
        )
    elif error.code() == KafkaError._PARTITION_EOF:
        left.remove(record.topic())
    else:
        sys.exit(error.str())
consumer.close()
