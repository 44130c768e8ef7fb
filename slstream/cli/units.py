"""Numbers as people read them."""

from __future__ import annotations

_BYTE_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")


def human_bytes(count: int) -> str:
    """Decimal units, three significant digits: ``999 B``, ``1.25 MB``, ``34.0 kB``."""
    if count < 1000:
        return f"{count} B"
    value = float(count)
    for unit in _BYTE_UNITS[1:]:
        value /= 1000
        if value < 999.5 or unit == _BYTE_UNITS[-1]:
            break
    return f"{_three_digits(value)} {unit}"


def human_seconds(seconds: float) -> str:
    """``0.42 s``, ``12.3 s``, ``2 m 05 s``, ``1 h 02 m``."""
    if seconds < 99.95:
        return f"{seconds:.2f} s" if seconds < 9.995 else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} m {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} m"


def human_ratio(raw: int, wire: int) -> str:
    """How many times fewer: ``22.6x``; ``-`` before anything was sent."""
    return f"{_three_digits(raw / wire)}x" if wire else "-"


def human_number(value: float) -> str:
    """Four significant digits without an exponent where one can do without."""
    if value == 0 or 1e-3 <= abs(value) < 1e4:
        return f"{value:.4g}"
    return f"{value:,.0f}" if 1e4 <= abs(value) < 1e12 else f"{value:.3e}"


def _three_digits(value: float) -> str:
    if value < 9.995:
        return f"{value:.2f}"
    return f"{value:.1f}" if value < 99.95 else f"{value:.0f}"
