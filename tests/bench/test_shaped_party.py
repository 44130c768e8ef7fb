"""The process at the far end of a link."""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict
from pathlib import Path
from time import perf_counter
from typing import Any

import pytest

from slstream.bench import shaped_party
from slstream.bench.shaped_link import Link
from tests.party.federation import write_federation

WAIT_S = 0.0002


def test_its_waits_are_not_rounded_up_to_milliseconds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The least of many counts, so that a busy processor does not."""
    waits: list[float] = []

    class Party:
        def __init__(self, *_: Any, **__: Any) -> None: ...

        async def run(self) -> None:
            for _ in range(100):
                begin_s = perf_counter()
                await asyncio.sleep(WAIT_S)
                waits.append(perf_counter() - begin_s)

    monkeypatch.setattr(shaped_party, "PartyRuntime", Party)
    path = write_federation(tmp_path).path
    link = json.dumps(asdict(Link(rate_bps=1e9)))
    assert shaped_party.main(["bob", "--link", link, "--topology", str(path)]) == 0
    assert min(waits) < 0.0008
