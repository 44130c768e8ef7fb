from __future__ import annotations

import pytest

from slstream.cli.printable import printable


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("café → 512", "café → 512"),
        ("a\x1b[2Jb", "a\\x1b[2Jb"),
        ("right\u202eleft", "right\\u202eleft"),
        ("two\nlines\r", "two\nlines\\r"),
        ("\ud800", "\\ud800"),
    ],
)
def test_control_characters_become_escapes(text: str, safe: str) -> None:
    assert printable(text) == safe


def test_lines_can_be_joined() -> None:
    assert printable("a\nb\tc", keep_lines=False) == "a\\nb\\tc"
