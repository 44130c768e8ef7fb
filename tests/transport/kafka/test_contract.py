"""The Kafka transport keeps the contract of all transports, on a real broker."""

from __future__ import annotations

import pytest

from slstream.testing.transport import TransportContract

pytest_plugins = ["tests.kafka.fixtures"]


class TestKafka(TransportContract):
    @pytest.fixture
    def url(self, kafka: str) -> str:
        return f"kafka://{kafka}"
