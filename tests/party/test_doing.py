from __future__ import annotations

import pytest

from slstream.errors import DataError, TransportBroken, TransportDenied
from slstream.party.doing import doing, provided_by


def test_a_transport_error_keeps_its_class_and_gets_a_place() -> None:
    with (
        pytest.raises(TransportBroken, match=r"^cannot read the lobby \(topic a\.lobby\): no$"),
        doing("read the lobby (topic a.lobby)"),
    ):
        raise TransportBroken("no")


def test_other_errors_pass() -> None:
    with pytest.raises(DataError, match=r"^no$"), doing("read"):
        raise DataError("no")


def test_a_missing_right_names_the_command_that_provides_it() -> None:
    with (
        pytest.raises(TransportDenied, match=r"^a: not allowed; to provide it: apply a\.yaml$"),
        provided_by("apply a.yaml"),
    ):
        raise TransportDenied("a: not allowed")


def test_errors_that_no_right_would_spare_name_no_command() -> None:
    with pytest.raises(TransportBroken, match=r"^no$"), provided_by("apply a.yaml"):
        raise TransportBroken("no")
