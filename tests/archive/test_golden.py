"""Archives of every format that was ever released stay readable."""

from __future__ import annotations

import asyncio
from pathlib import Path

from slstream.archive.transport import ArchiveTransport
from slstream.archive.verification import verify
from slstream.frames.link import FrameReader
from tests.archive.sessions import LOBBY, SCHEMAS, SESSION, UP, all_of

GOLDEN = Path(__file__).parents[1] / "golden" / "archive"
DIGEST = "eeae90940ae95feac82335c15109e6ac76fecd3ee54efbf8c5f3bdf7dd3a37e2"


def test_an_archive_of_format_1_is_intact() -> None:
    report = verify(GOLDEN / "format-1.mcap")
    assert (report.session, report.outcome) == (SESSION, "finished")
    assert (report.links, report.frames, report.schemas) == (3, 2 * 4 + 3, 3)
    assert report.digest == DIGEST


def test_an_archive_of_format_1_is_read() -> None:
    async def body() -> None:
        async with await ArchiveTransport.open(GOLDEN / "format-1.mcap") as log:
            assert [each.offset for each in await all_of(log, LOBBY)] == [2, 4]
            assert len(await all_of(log, SCHEMAS)) == 3
            reader = FrameReader()
            frames = [reader.push(each.value) for each in await all_of(log, UP)]
            assert [frame.payload for frame in frames if frame][1:4] == [
                bytes(step + n for n in range(20)) for step in range(3)
            ]

    asyncio.run(body())
