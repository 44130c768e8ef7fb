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
