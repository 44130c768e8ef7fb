"""Where the log of a run is."""

from __future__ import annotations

from pathlib import Path

from slstream.topology.topology import Topology
from slstream.transport.connect import embedded_url


def log_url(topology: Topology, directory: Path) -> str:
    """The topology's transport, or else the embedded log in the run's directory."""
    return topology.transport or embedded_url(directory / "log")
