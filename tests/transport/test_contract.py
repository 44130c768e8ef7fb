"""The embedded transport keeps the contract of all transports."""

from __future__ import annotations

from pathlib import Path

import pytest

from slstream.testing.transport import TransportContract
from slstream.transport.connect import embedded_url


class TestEmbedded(TransportContract):
    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        return embedded_url(tmp_path / "log")

    def test_a_killed_writer_leaves_whole_appends_of_any_size(self, url: str, topic: str) -> None:
        """The embedded log does not cut large appends."""
        self.test_a_killed_writer_leaves_whole_appends(url, topic, size=100_000)
