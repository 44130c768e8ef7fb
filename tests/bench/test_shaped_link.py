"""What a link does to transfers, in numbers; no clock is involved."""

from __future__ import annotations

import pytest

from slstream.bench.shaped_link import Direction, Link, parse_duration, parse_rate
from slstream.errors import ConfigError


def direction(**fields: float) -> Direction:
    return Direction(Link(**{"rate_bps": 1e6, **fields}), seed="any")


@pytest.mark.parametrize(
    ("text", "rate"),
    [("100mbit", 100e6), ("1.5gbit", 1.5e9), ("56kbit", 56e3), ("9bit", 9), (" 10 Mbit ", 10e6)],
)
def test_rates(text: str, rate: float) -> None:
    assert parse_rate(text) == pytest.approx(rate)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("50ms", 0.05), ("1.5s", 1.5), ("200us", 2e-4), ("0", 0.0), ("0ms", 0.0), (".5 S", 0.5)],
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "100", "fast", "100mb", "0mbit", "-1mbit", "1e3mbit", "nan"])
def test_a_text_that_is_no_rate_is_told_what_was_expected(text: str) -> None:
    with pytest.raises(ConfigError, match=r"100mbit.*bit, kbit, mbit, gbit.*found ") as caught:
        parse_rate(text)
    assert repr(text) in str(caught.value)


@pytest.mark.parametrize("text", ["", "50", "50 minutes", "-1ms", "ms"])
def test_a_text_that_is_no_duration_is_told_what_was_expected(text: str) -> None:
    with pytest.raises(ConfigError, match=r"50ms.*us, ms, s.*found "):
        parse_duration(text)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"rate_bps": 0}, "rate above 0"),
        ({"rtt_s": -1}, "negative"),
        ({"cut_every_s": 5}, "both how often and how long"),
        ({"cut_for_s": 5}, "both how often and how long"),
        ({"cut_every_s": 5, "cut_for_s": 5}, "nothing would ever pass"),
    ],
)
def test_a_link_that_cannot_be_is_refused(fields: dict[str, float], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        direction(**fields)


def test_a_transfer_takes_its_bits_and_the_way() -> None:
    up = direction(rtt_s=0.05)
    assert up.transfer(125_000, 2.0) == pytest.approx(2 + 1 + 0.025)


def test_transfers_wait_for_each_other_but_not_for_the_way() -> None:
    up = direction(rtt_s=10)
    assert up.transfer(125_000, 0.0) == pytest.approx(1 + 5)
    assert up.transfer(125_000, 0.25) == pytest.approx(2 + 5)
    assert up.transfer(0, 0.5) == pytest.approx(2 + 5), "an acknowledgement takes its turn"
    assert up.transfer(125_000, 4.0) == pytest.approx(5 + 5), "the link was free since 2"


def test_jitter_delays_within_its_bounds_and_keeps_the_order() -> None:
    up = direction(rtt_s=0.05, jitter_s=0.2)
    again = direction(rtt_s=0.05, jitter_s=0.2)
    arrivals = [up.transfer(125, 0.01 * n) for n in range(200)]
    assert arrivals == sorted(arrivals)
    late = [arrival - (0.01 * n + 0.001 + 0.025) for n, arrival in enumerate(arrivals)]
    assert min(late) >= -1e-9
    assert 0.15 < max(late) <= 0.2
    assert len({round(each, 6) for each in late}) > 10
    assert arrivals == [again.transfer(125, 0.01 * n) for n in range(200)], "the seed says it all"


def test_a_cut_lets_nothing_pass() -> None:
    cuts = {"cut_every_s": 10.0, "cut_for_s": 2.0}
    assert direction(**cuts).transfer(125_000, 3.0) == pytest.approx(4), "none at the opening"
    assert direction(**cuts).transfer(125_000, 11.0) == pytest.approx(13), "waits for its end"
    assert direction(**cuts).transfer(125_000, 9.5) == pytest.approx(12.5), "goes on afterwards"
    assert direction(**cuts).transfer(125_000, 8.5) == pytest.approx(9.5), "done before"
    long = direction(**cuts).transfer(20 * 125_000, 5.0)
    assert long == pytest.approx(5 + 20 + 2 * 2), "through two cuts"


def test_what_is_under_way_during_a_cut_arrives_after_it() -> None:
    up = direction(rtt_s=1.0, cut_every_s=10.0, cut_for_s=2.0)
    assert up.transfer(0, 9.4) == pytest.approx(9.9)
    assert up.transfer(0, 9.6) == pytest.approx(12)
    assert up.transfer(0, 9.7) == pytest.approx(12)
    assert up.transfer(0, 12.0) == pytest.approx(12.5)
