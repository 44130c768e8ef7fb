"""Log records as structured lines on standard error, above the progress display.

The package logs through :mod:`logging` with a constant message and its values in ``extra``::

    logger.info("rows matched", extra={"party": "bob", "matched": 512})

which comes out as one of

    2026-01-31T12:00:00.123Z info rows matched party=bob matched=512
    {"time":"2026-01-31T12:00:00.123Z","level":"info","message":"rows matched","party":"bob",...}
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from enum import StrEnum

from rich.console import Console

from slstream.cli.printable import printable

LOGGER = "slstream"
LEVELS = ("debug", "info", "warning", "error")

_STANDARD_FIELDS = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}


class LogFormat(StrEnum):
    """How a log record is written."""

    TEXT = "text"
    JSON = "json"


@contextmanager
def logs_to(console: Console, *, level: str, log_format: LogFormat) -> Iterator[None]:
    """Write the package's log records to ``console`` while the context lasts.

    Going through the console keeps a live display on it intact.

    Args:
        console: where to; shared with the progress display.
        level: the least important level that is shown, one of :data:`LEVELS`.
        log_format: text or JSON lines.
    """
    handler = _ConsoleHandler(console)
    handler.setFormatter(_JsonFormatter() if log_format is LogFormat.JSON else _TextFormatter())
    logger = logging.getLogger(LOGGER)
    before = logger.level
    logger.setLevel(level.upper())
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)


class _ConsoleHandler(logging.Handler):
    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._console.out(self.format(record), highlight=False)
        except Exception:  # noqa: BLE001 - as every handler does: a log line is no reason to stop
            self.handleError(record)


class _TextFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        parts = [
            _time(record),
            record.levelname.lower(),
            printable(record.getMessage(), keep_lines=False),
        ]
        parts += [f"{key}={_text_value(value)}" for key, value in _fields(record).items()]
        line = " ".join(parts)
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        document: dict[str, object] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
            "logger": record.name,
            **_fields(record),
        }
        if record.exc_info:
            document["exception"] = self.formatException(record.exc_info)
        return json.dumps(document, separators=(",", ":"), default=str)


def _time(record: logging.LogRecord) -> str:
    moment = datetime.fromtimestamp(record.created, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{int(record.msecs):03d}Z"


def _fields(record: logging.LogRecord) -> dict[str, object]:
    return {key: value for key, value in vars(record).items() if key not in _STANDARD_FIELDS}


def _text_value(value: object) -> str:
    """A value that a line can be split at again: quoted where it has spaces or signs of its own."""
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    plain = text and text.isprintable() and not any(sign in text for sign in " =\"'")
    return text if plain else json.dumps(text, ensure_ascii=False)
