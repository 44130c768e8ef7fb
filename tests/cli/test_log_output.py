from __future__ import annotations

import io
import json
import logging
import re

from rich.console import Console

from slstream.cli.log_output import LogFormat, logs_to

logger = logging.getLogger("slstream.party.example")


def logged(log_format: LogFormat, *, level: str = "info") -> list[str]:
    file = io.StringIO()
    with logs_to(Console(file=file, width=40), level=level, log_format=log_format):
        logger.debug("not shown")
        fields = {"party": "bob", "matched": 512, "topic": "a topic", "share": 0.5, "empty": ""}
        logger.info("rows matched", extra=fields)
        logger.warning("odd\nreason \x1b[2J [red]%s", "x" * 60)
    logger.error("after the end")
    return file.getvalue().splitlines()


def test_text_lines_are_key_value_pairs() -> None:
    first, second = logged(LogFormat.TEXT)
    time, rest = first.split(" ", 1)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", time)
    assert rest == 'info rows matched party=bob matched=512 topic="a topic" share=0.5 empty=""'
    assert second.endswith(" warning odd\\nreason \\x1b[2J [red]" + "x" * 60)


def test_json_lines_are_objects() -> None:
    first, second = map(json.loads, logged(LogFormat.JSON))
    assert first.pop("time").endswith("Z")
    assert first == {
        "level": "info",
        "message": "rows matched",
        "logger": "slstream.party.example",
        "party": "bob",
        "matched": 512,
        "topic": "a topic",
        "share": 0.5,
        "empty": "",
    }
    assert second["message"].startswith("odd\nreason")


def test_level_is_a_threshold() -> None:
    assert len(logged(LogFormat.TEXT, level="warning")) == 1
    assert not logged(LogFormat.TEXT, level="error")


def test_an_exception_is_part_of_its_record() -> None:
    file = io.StringIO()
    with logs_to(Console(file=file), level="info", log_format=LogFormat.JSON):
        logger.error("stopped", exc_info=ValueError("why"))
    assert "ValueError: why" in json.loads(file.getvalue())["exception"]
