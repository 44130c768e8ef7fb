"""How fast a link is, as far as its two ends know."""

from __future__ import annotations

from collections import deque
from contextlib import AbstractContextManager, ExitStack

import pytest

from slstream.errors import TransportError
from slstream.party import link_speed
from slstream.party.link_speed import LinkSpeed


def feed(speed: LinkSpeed, *, to_log: float | None = None, from_log: float | None = None) -> None:
    """Transfers of this many bytes per second."""
    for rate, bytes_per_s in ((speed.to_log, to_log), (speed.from_log, from_log)):
        if bytes_per_s is not None:
            for size in (100, *[100_000] * 7):
                rate.add(size, 0.01 + size / bytes_per_s)


def test_what_the_peer_sees_is_added() -> None:
    alice, bob = LinkSpeed(chooses=True, tells=True), LinkSpeed(chooses=True, tells=True)
    assert alice.seconds_per_byte is None
    feed(bob, from_log=1e6)
    alice.heed(bob.headers())
    assert alice.seconds_per_byte == pytest.approx(1e-6, rel=0.02)
    feed(alice, to_log=1e6)
    assert alice.seconds_per_byte == pytest.approx(2e-6, rel=0.02)
    assert bob.seconds_per_byte is None


def test_a_rate_is_told_once_and_again_when_it_has_changed() -> None:
    speed = LinkSpeed(chooses=True, tells=True)
    assert speed.headers() == ()
    feed(speed, from_log=1e6)
    ((name, value),) = speed.headers()
    assert name == "rate"
    assert int(value) == pytest.approx(1e6, rel=0.02)
    assert speed.headers() == ()
    feed(speed, from_log=1.1e6)
    assert speed.headers() == ()
    feed(speed, from_log=1.3e6)
    assert len(speed.headers()) == 1
    feed(speed, from_log=1e20)
    assert len(speed.headers()) == 1


def test_a_rate_is_told_again_to_a_peer_that_may_have_been_started_anew() -> None:
    speed = LinkSpeed(chooses=True, tells=True)
    feed(speed, from_log=1e6)
    told = [bool(speed.headers()) for _ in range(100)]
    assert [number for number, each in enumerate(told) if each] == [0, 32, 64, 96]


class Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_s = 0.0
        monkeypatch.setattr(link_speed, "perf_counter", lambda: self.now_s)


def test_half_a_link_is_not_taken_for_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, speed = Clock(monkeypatch), LinkSpeed(chooses=True, tells=True)
    feed(speed, to_log=1e6)
    assert speed.seconds_per_byte is None, "the peer may still tell"
    for _ in range(40):
        with speed.appending(100):
            clock.now_s += 0.01
    assert speed.seconds_per_byte == pytest.approx(1e-6, rel=0.02)


def test_appends_that_are_confirmed_together_are_one_transfer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock, speed = Clock(monkeypatch), LinkSpeed(chooses=True, tells=True)
    with speed.appending(100):
        clock.now_s += 0.01
    for _ in range(3):
        with ExitStack() as stack:
            for _ in range(4):
                stack.enter_context(speed.appending(100_000))
            clock.now_s += 0.01 + 0.4
        clock.now_s += 1
    assert speed.to_log.seconds_per_byte == pytest.approx(1e-6, rel=0.02)


def test_a_link_that_is_never_idle_is_rated_too(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, speed = Clock(monkeypatch), LinkSpeed(chooses=True, tells=True)
    under_way: deque[AbstractContextManager[None]] = deque()
    for number in range(60):
        under_way.append(speed.appending(100_000))
        under_way[-1].__enter__()
        if number >= 4:
            clock.now_s += 0.1
            under_way.popleft().__exit__(None, None, None)
    assert speed.to_log.seconds_per_byte == pytest.approx(1e-6, rel=0.02)


def test_an_append_that_fails_tells_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, speed = Clock(monkeypatch), LinkSpeed(chooses=True, tells=True)
    with speed.appending(100):
        clock.now_s += 0.01
    append = speed.appending(100_000)
    append.__enter__()
    clock.now_s += 60
    error = TransportError("away")
    assert not append.__exit__(TransportError, error, None)
    assert speed.to_log.seconds_per_byte is None
    with speed.appending(100_000):
        clock.now_s += 0.01 + 0.1
    assert speed.to_log.seconds_per_byte == pytest.approx(1e-6, rel=0.02)


def test_who_does_not_need_it_is_not_told() -> None:
    speed = LinkSpeed(chooses=True, tells=False)
    speed.arrived(100, 0.01, 0.01)
    speed.arrived(100_000, 0.11, 0.11)
    assert speed.headers() == ()


def test_what_nobody_chooses_by_is_not_measured() -> None:
    speed = LinkSpeed(chooses=False, tells=False)
    for size in (100, 100_000):
        speed.arrived(size, 0.01 + size / 1e6, 1.0)
        with speed.appending(size):
            pass
    assert speed.from_log.seconds_per_byte is None
    assert speed.to_log.seconds_per_byte is None


@pytest.mark.parametrize(
    "value", [b"", b"-1", b"1.5", b"1e6", b" 7", b"9" * 17, b"9" * 5000, b"\xff", "٣".encode()]
)
def test_what_is_no_rate_is_ignored(value: bytes) -> None:
    speed = LinkSpeed(chooses=True, tells=True)
    found = []
    for headers in ((("rate", value), ("other", b"5")), (("rate", b"1000"),), (("rate", value),)):
        speed.heed(headers)
        found.append(speed.seconds_per_byte)
    assert found == [None, 0.001, 0.001]


def test_a_rate_of_nothing_is_the_slowest() -> None:
    speed = LinkSpeed(chooses=True, tells=True)
    speed.heed((("rate", b"0"),))
    assert speed.seconds_per_byte == 1.0
