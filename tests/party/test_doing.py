from __future__ import annotations

import pytest

from slstream.errors import DataError, TransportBroken
from slstream.party.doing import doing


def test_a_transport_error_keeps_its_class_and_gets_a_place() -> None:
    with (
        pytest.raises(TransportBroken, match=r"^cannot read the lobby \(topic a\.lobby\): no$"),
        doing("read the lobby (topic a.lobby)"),
    ):
        raise TransportBroken("no")


def test_other_errors_pass() -> None:
    with pytest.raises(DataError, match=r"^no$"), doing("read"):
        raise DataError("no")
