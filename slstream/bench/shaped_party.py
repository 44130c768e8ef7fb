"""A party at the far end of a link: ``python -m slstream.bench.shaped_party NAME --link ...``.

Takes the options with which :mod:`slstream.supervisor` starts ``slstream party``.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import selectors
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from slstream.bench.shaped_link import Link
from slstream.bench.shaped_transport import ShapedTransport
from slstream.errors import SlstreamError
from slstream.party.runtime import PartyRuntime
from slstream.topology import Topology


def command(party: str, link: Link) -> Sequence[str]:
    """Python's arguments that run a party, before the options."""
    return ("-m", __name__, party, "--link", json.dumps(asdict(link)))


def main(arguments: Sequence[str]) -> int:
    """Run the party; returns the exit status."""
    parser = argparse.ArgumentParser(prog="shaped_party")
    parser.add_argument("party")
    parser.add_argument("--link", type=json.loads)
    parser.add_argument("--topology", type=Path)
    parser.add_argument("--set", dest="overrides", action="append", default=[])
    parser.add_argument("--dir", dest="directory", type=Path)
    parser.add_argument("--quiet", action="store_true")
    parser.add_argument("--log-level", default="error")
    given = parser.parse_args(arguments)
    logging.basicConfig(level=given.log_level.upper(), format="%(levelname)s %(message)s")
    try:
        link = Link(**given.link)
        topology = Topology.load(given.topology, given.overrides)
        runtime = PartyRuntime(
            given.party,
            topology,
            given.directory,
            lambda progress: None,
            wrap_transport=lambda inner: ShapedTransport(
                inner, link, seed=f"{topology.seed} {given.party}"
            ),
        )
        with asyncio.Runner(loop_factory=_precise_loop) as runner:
            runner.run(runtime.run())
    except SlstreamError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    return 0


def _precise_loop() -> asyncio.AbstractEventLoop:
    """One whose timers are not late by up to a millisecond.

    The default one waits with ``epoll``, whose timeouts are whole milliseconds, rounded up: the
    link would take as long for 100 KB as for 200.
    """
    return asyncio.SelectorEventLoop(selectors.SelectSelector())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
