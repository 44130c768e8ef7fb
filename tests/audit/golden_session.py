"""The golden session: a recorded training that every later release must verify and replay.

``python -m tests.audit.golden_session`` records one for the current format when there is none yet.
A recorded one is never changed: a format that changes gets a folder of its own beside it.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
from pathlib import Path

from slstream import Topology, run
from slstream.archive.export import export_session
from slstream.transport.connect import embedded_url, open_transport
from tests.party.small_session import document, write_tables

GOLDEN = Path(__file__).parent.parent / "golden" / "sessions"


def main() -> None:
    """Record what is missing."""
    folder = GOLDEN / "format-1"
    if folder.exists():
        raise SystemExit(f"{folder} is there already")
    folder.mkdir(parents=True)
    write_tables(folder, ("bob",))
    base = {"model": "mlp", "args": {"hidden": [4], "out": 3, "dropout": 0.2}}
    value = document(1, optimizer={"name": "adam", "lr": 0.01}, codec={})
    for party in value["parties"].values():
        party["base"] = base
    (folder / "topology.yaml").write_text(json.dumps(value, indent=2) + "\n")
    topology = Topology.load(folder / "topology.yaml")
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        summary = run(topology, directory=directory)

        async def export() -> None:
            async with await open_transport(embedded_url(directory / "log")) as log:
                await export_session(log, summary.session, folder / "session.mcap", federation=None)

        asyncio.run(export())
    (folder / "weights.json").write_text(json.dumps(summary.weights, indent=2) + "\n")


if __name__ == "__main__":
    main()
