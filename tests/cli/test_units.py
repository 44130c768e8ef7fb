from __future__ import annotations

import pytest

from slstream.cli.units import human_bytes, human_number, human_ratio, human_seconds


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.00 kB"),
        (9_994, "9.99 kB"),
        (9_996, "10.0 kB"),
        (34_020, "34.0 kB"),
        (999_499, "999 kB"),
        (999_500, "1.00 MB"),
        (18_400_000, "18.4 MB"),
        (5_120_000_000, "5.12 GB"),
        (10**19, "10000 PB"),
    ],
)
def test_bytes(count: int, text: str) -> None:
    assert human_bytes(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0.00 s"),
        (9.994, "9.99 s"),
        (9.996, "10.0 s"),
        (99.94, "99.9 s"),
        (99.96, "1 m 40 s"),
        (119.6, "2 m 00 s"),
        (3599.4, "59 m 59 s"),
        (3600.0, "1 h 00 m"),
        (90_000.0, "25 h 00 m"),
    ],
)
def test_seconds(seconds: float, text: str) -> None:
    assert human_seconds(seconds) == text


@pytest.mark.parametrize(
    ("raw", "wire", "text"), [(0, 0, "-"), (226, 10, "22.6x"), (10, 10, "1.00x"), (1, 3, "0.33x")]
)
def test_ratio(raw: int, wire: int, text: str) -> None:
    assert human_ratio(raw, wire) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (0.12345, "0.1235"),
        (0.00001, "1.000e-05"),
        (250.0, "250"),
        (123456.7, "123,457"),
        (1e15, "1.000e+15"),
        (float("nan"), "nan"),
        (float("inf"), "inf"),
    ],
)
def test_number(value: float, text: str) -> None:
    assert human_number(value) == text
