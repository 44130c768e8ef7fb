from __future__ import annotations

from pathlib import Path

from slstream.party.address import log_url
from tests.party.small_session import topology


def test_the_log_is_where_the_topology_says_or_with_the_run(tmp_path: Path) -> None:
    assert log_url(topology(tmp_path), Path("/run dir")) == "embedded:///run%20dir/log"
    elsewhere = topology(tmp_path, transport="embedded:///shared/log")
    assert log_url(elsewhere, Path("/run")) == "embedded:///shared/log"
