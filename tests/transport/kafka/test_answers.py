from __future__ import annotations

import pytest

from slstream.errors import (
    RecordTooLarge,
    TransportBroken,
    TransportDenied,
    TransportError,
    UnknownTopic,
)
from slstream.transport.kafka.answers import DiskFailedError, NotYetError, check_answer


@pytest.mark.parametrize(
    ("code", "error", "says"),
    [
        (6, NotYetError, "another broker leads"),
        (19, NotYetError, "min.insync.replicas"),
        (56, DiskFailedError, "disk failed or is full"),
        (78, NotYetError, "does not know yet"),
        (3, UnknownTopic, "no topic t"),
        (100, UnknownTopic, "no topic t"),
        (29, TransportDenied, r"t\[0\]: .*allow WRITE.*slstream topology apply"),
        (31, TransportDenied, "slstream topology apply"),
        (10, RecordTooLarge, "max.message.bytes"),
        (46, TransportBroken, "may or may not have"),
        (47, TransportBroken, "may or may not have"),
        (44, TransportError, r"error 44, PolicyViolationError \(because\)"),
        (9999, TransportError, "error 9999"),
    ],
)
def test_each_answer_has_a_meaning(code: int, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        check_answer(code, "WRITE", "t[0]", detail="because")


def test_success_is_nothing() -> None:
    check_answer(0, "WRITE", "t[0]")
