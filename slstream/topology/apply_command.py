"""The command with which an operator provides what a federation needs on its broker."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from slstream.topology.topology import Topology


def apply_command(topology: Topology, sessions: Sequence[str] = ()) -> str:
    """To be copied from a message into a shell.

    Args:
        topology: the federation.
        sessions: those whose links are needed; without any, the topics and rights that last.
    """
    words = ["slstream", "topology", "apply", str(topology.path or "TOPOLOGY")]
    for override in topology.overrides:
        words += ["--set", override]
    for session in sessions:
        words += ["--session", session]
    return shlex.join(words)
