"""How fast a link is, as far as its two ends know."""

from __future__ import annotations

import pytest

from slstream.party.link_speed import LinkSpeed


def feed(speed: LinkSpeed, *, to_log: float | None = None, from_log: float | None = None) -> None:
    """Transfers of this many bytes per second."""
    for rate, bytes_per_s in ((speed.to_log, to_log), (speed.from_log, from_log)):
        if bytes_per_s is not None:
            rate.add(100, 0.0, 0.01)
            for number in range(1, 8):
                rate.add(100_000, number, number + 0.01 + 100_000 / bytes_per_s)


def test_what_the_peer_sees_is_added() -> None:
    alice, bob = LinkSpeed(tells=True), LinkSpeed(tells=True)
    assert alice.seconds_per_byte is None
    feed(bob, from_log=1e6)
    alice.heed(bob.headers())
    assert alice.seconds_per_byte == pytest.approx(1e-6, rel=0.01)
    feed(alice, to_log=1e6)
    assert alice.seconds_per_byte == pytest.approx(2e-6, rel=0.01)
    assert bob.seconds_per_byte is None


def test_a_rate_is_told_once_and_again_when_it_has_changed() -> None:
    speed = LinkSpeed(tells=True)
    assert speed.headers() == ()
    feed(speed, from_log=1e6)
    ((name, value),) = speed.headers()
    assert name == "rate"
    assert int(value) == pytest.approx(1e6, rel=0.01)
    assert speed.headers() == ()
    feed(speed, from_log=1.1e6)
    assert speed.headers() == ()
    feed(speed, from_log=1.3e6)
    assert len(speed.headers()) == 1
    feed(speed, from_log=1e20)
    assert len(speed.headers()) == 1


def test_who_does_not_need_it_is_not_told() -> None:
    speed = LinkSpeed(tells=False)
    feed(speed, from_log=1e6)
    assert speed.headers() == ()


@pytest.mark.parametrize(
    "value", [b"", b"-1", b"1.5", b"1e6", b" 7", b"9" * 17, b"9" * 5000, b"\xff", "٣".encode()]
)
def test_what_is_no_rate_is_ignored(value: bytes) -> None:
    speed = LinkSpeed(tells=True)
    found = []
    for headers in ((("rate", value), ("other", b"5")), (("rate", b"1000"),), (("rate", value),)):
        speed.heed(headers)
        found.append(speed.seconds_per_byte)
    assert found == [None, 0.001, 0.001]


def test_a_rate_of_nothing_is_the_slowest() -> None:
    speed = LinkSpeed(tells=True)
    speed.heed((("rate", b"0"),))
    assert speed.seconds_per_byte == 1.0
