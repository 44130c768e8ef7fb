"""The requests that aiokafka does not have in the version that is needed here.

Topics have an identity beside their name since Kafka 3.1: one that is deleted and created again
has another. Metadata 12 tells it and Fetch 13 asks by it, so that records of the one are never
taken for records of the other. Field lists follow the message definitions of Apache Kafka
(``clients/src/main/resources/common/message/*.json``).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from io import BytesIO
from typing import Any

from aiokafka.errors import UnsupportedVersionError
from aiokafka.protocol.abstract import AbstractType
from aiokafka.protocol.admin import CreateTopicsRequest_v3, CreateTopicsResponse_v3
from aiokafka.protocol.api import RequestStruct, Response
from aiokafka.protocol.produce import ProduceResponse_v7
from aiokafka.protocol.types import (
    Array,
    Boolean,
    CompactArray,
    CompactBytes,
    CompactString,
    Int8,
    Int16,
    Int32,
    Int64,
    Schema,
    String,
    TaggedFields,
)

NO_TOPIC_ID = bytes(16)
ACKS_ALL = -1
CONSUMER = -1
"""Not a replica."""
NO_EPOCH = -1
EARLIEST = -2
LATEST = -1
_NO_SESSION = (0, -1)


@dataclass(frozen=True, slots=True)
class Exactly:
    """A request in one version of its kind."""

    request: RequestStruct

    def prepare(self, versions: dict[int, tuple[int, int]]) -> RequestStruct:
        """The request, when the broker knows this version; what a connection of aiokafka calls."""
        kind, version = self.request.API_KEY, self.request.API_VERSION
        low, high = versions.get(kind, (0, -1))
        if not low <= version <= high:
            raise UnsupportedVersionError(
                f"request kind {kind}: expected a broker that knows version {version}, found one "
                f"with {low} to {high}; Apache Kafka 3.1 or newer is needed"
            )
        return self.request


class Uuid(AbstractType):
    """Sixteen bytes."""

    @classmethod
    def encode(cls, value: bytes) -> bytes:
        """As it is."""
        return value

    @classmethod
    def decode(cls, data: BytesIO) -> bytes:
        """As it is."""
        return data.read(16)


class MetadataResponse(Response):
    """Brokers, and the topics that were asked for."""

    API_KEY = 3
    API_VERSION = 12
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "brokers",
            CompactArray(
                ("node_id", Int32),
                ("host", CompactString("utf-8")),
                ("port", Int32),
                ("rack", CompactString("utf-8")),
                ("tags", TaggedFields),
            ),
        ),
        ("cluster_id", CompactString("utf-8")),
        ("controller_id", Int32),
        (
            "topics",
            CompactArray(
                ("error_code", Int16),
                ("name", CompactString("utf-8")),
                ("topic_id", Uuid),
                ("is_internal", Boolean),
                (
                    "partitions",
                    CompactArray(
                        ("error_code", Int16),
                        ("partition", Int32),
                        ("leader", Int32),
                        ("leader_epoch", Int32),
                        ("replicas", CompactArray(Int32)),
                        ("in_sync", CompactArray(Int32)),
                        ("offline", CompactArray(Int32)),
                        ("tags", TaggedFields),
                    ),
                ),
                ("authorized_operations", Int32),
                ("tags", TaggedFields),
            ),
        ),
        ("tags", TaggedFields),
    )


class MetadataRequest(RequestStruct):
    """Asks for topics by name; ``None`` for all."""

    API_KEY = 3
    API_VERSION = 12
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = MetadataResponse
    SCHEMA = Schema(
        (
            "topics",
            CompactArray(
                ("topic_id", Uuid), ("name", CompactString("utf-8")), ("tags", TaggedFields)
            ),
        ),
        ("allow_auto_topic_creation", Boolean),
        ("include_authorized_operations", Boolean),
        ("tags", TaggedFields),
    )


class FetchResponse(Response):
    """Record batches, as they lie in the log."""

    API_KEY = 1
    API_VERSION = 13
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        ("error_code", Int16),
        ("session_id", Int32),
        (
            "topics",
            CompactArray(
                ("topic_id", Uuid),
                (
                    "partitions",
                    CompactArray(
                        ("partition", Int32),
                        ("error_code", Int16),
                        ("high_watermark", Int64),
                        ("last_stable_offset", Int64),
                        ("log_start_offset", Int64),
                        (
                            "aborted",
                            CompactArray(
                                ("producer_id", Int64),
                                ("first_offset", Int64),
                                ("tags", TaggedFields),
                            ),
                        ),
                        ("preferred_read_replica", Int32),
                        ("records", CompactBytes),
                        ("tags", TaggedFields),
                    ),
                ),
                ("tags", TaggedFields),
            ),
        ),
        ("tags", TaggedFields),
    )


class FetchRequest(RequestStruct):
    """Asks for the records of topics by their ids."""

    API_KEY = 1
    API_VERSION = 13
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = FetchResponse
    SCHEMA = Schema(
        ("replica_id", Int32),
        ("max_wait_ms", Int32),
        ("min_bytes", Int32),
        ("max_bytes", Int32),
        ("isolation_level", Int8),
        ("session_id", Int32),
        ("session_epoch", Int32),
        (
            "topics",
            CompactArray(
                ("topic_id", Uuid),
                (
                    "partitions",
                    CompactArray(
                        ("partition", Int32),
                        ("current_leader_epoch", Int32),
                        ("fetch_offset", Int64),
                        ("last_fetched_epoch", Int32),
                        ("log_start_offset", Int64),
                        ("partition_max_bytes", Int32),
                        ("tags", TaggedFields),
                    ),
                ),
                ("tags", TaggedFields),
            ),
        ),
        (
            "forgotten",
            CompactArray(
                ("topic_id", Uuid), ("partitions", CompactArray(Int32)), ("tags", TaggedFields)
            ),
        ),
        ("rack_id", CompactString("utf-8")),
        ("tags", TaggedFields),
    )


class ListOffsetsResponse(Response):
    """The offsets that were asked for."""

    API_KEY = 2
    API_VERSION = 5
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "topics",
            Array(
                ("name", String("utf-8")),
                (
                    "partitions",
                    Array(
                        ("partition", Int32),
                        ("error_code", Int16),
                        ("timestamp", Int64),
                        ("offset", Int64),
                        ("leader_epoch", Int32),
                    ),
                ),
            ),
        ),
    )


class ListOffsetsRequest(RequestStruct):
    """Asks where partitions begin or end.

    Since version 5 a leader that does not know yet which records are committed says so.
    """

    API_KEY = 2
    API_VERSION = 5
    RESPONSE_TYPE = ListOffsetsResponse
    SCHEMA = Schema(
        ("replica_id", Int32),
        ("isolation_level", Int8),
        (
            "topics",
            Array(
                ("name", String("utf-8")),
                (
                    "partitions",
                    Array(
                        ("partition", Int32),
                        ("current_leader_epoch", Int32),
                        ("timestamp", Int64),
                    ),
                ),
            ),
        ),
    )


class CreateTopicsResponse(Response):
    """An error code for each topic; none of them is raised."""

    API_KEY = 19
    API_VERSION = 4
    SCHEMA = CreateTopicsResponse_v3.SCHEMA


class CreateTopicsRequest(RequestStruct):
    """Since version 4 the replication factor may be left to the broker."""

    API_KEY = 19
    API_VERSION = 4
    RESPONSE_TYPE = CreateTopicsResponse
    SCHEMA = CreateTopicsRequest_v3.SCHEMA


class ProduceRequest(RequestStruct):
    """One record batch for one partition; encoded with one copy of the batch."""

    API_KEY = 0
    API_VERSION = 7
    RESPONSE_TYPE = ProduceResponse_v7
    SCHEMA = Schema(
        ("topic", String("utf-8")), ("partition", Int32), ("timeout_ms", Int32), ("batch", Int8)
    )

    def encode(self) -> bytes:
        """The request without its header."""
        before = struct.pack(">hhii", -1, ACKS_ALL, self.timeout_ms, 1)
        topic = String("utf-8").encode(self.topic)
        place = struct.pack(">iii", 1, self.partition, len(self.batch))
        return b"".join((before, topic, place, self.batch))


def metadata_request(topics: list[str] | None) -> Exactly:
    """Ask for topics by name, for all when ``None``; none is created by asking."""
    named: Any = None if topics is None else [(NO_TOPIC_ID, topic, {}) for topic in topics]
    return Exactly(MetadataRequest(named, False, False, {}))


def fetch_request(
    topic_id: bytes, partition: int, epoch: int, offset: int, *, max_wait_ms: int, max_bytes: int
) -> Exactly:
    """Ask for the records of a partition from an offset on; at least one batch comes whole."""
    place: Any = (partition, epoch, offset, NO_EPOCH, CONSUMER, max_bytes, {})
    topics: list[Any] = [(topic_id, [place], {})]
    limits = (max_wait_ms, 1, max_bytes, 0)
    return Exactly(FetchRequest(CONSUMER, *limits, *_NO_SESSION, topics, [], "", {}))


def list_offsets_request(topic: str, partition: int, epoch: int, timestamp: int) -> Exactly:
    """Ask where a partition begins (:data:`EARLIEST`) or ends (:data:`LATEST`)."""
    return Exactly(ListOffsetsRequest(CONSUMER, 0, [(topic, [(partition, epoch, timestamp)])]))
