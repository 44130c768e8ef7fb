"""Split learning over a durable log, every tensor compressed.

    topology = slstream.Topology.load("topology/breast-cancer.yaml")
    summary = slstream.run(topology)

Nothing heavy is imported before it is used: ``import slstream`` loads neither torch nor numba.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from slstream.errors import SlstreamError
    from slstream.party.scaling import Scaling
    from slstream.party.summary import Summary
    from slstream.party.telemetry import Progress
    from slstream.supervisor import run
    from slstream.topology import Topology

__all__ = ["Progress", "Scaling", "SlstreamError", "Summary", "Topology", "run"]

_PLACES = {
    "Progress": "slstream.party.telemetry",
    "Scaling": "slstream.party.scaling",
    "SlstreamError": "slstream.errors",
    "Summary": "slstream.party.summary",
    "Topology": "slstream.topology",
    "run": "slstream.supervisor",
}


def __getattr__(name: str) -> object:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_PLACES[name]), name)
