"""Text from elsewhere, made safe for a terminal."""

from __future__ import annotations


def printable(text: str, *, keep_lines: bool = True) -> str:
    r"""``text`` with every control character written as an escape such as ``\x1b``.

    Reasons and party names may come from a peer; an escape sequence among them could repaint the
    reader's terminal.

    Args:
        text: anything.
        keep_lines: leave line feeds and tabs as they are.
    """
    kept = "\n\t" if keep_lines else ""
    return "".join(c if c.isprintable() or c in kept else _escaped(c) for c in text)


def _escaped(character: str) -> str:
    return character.encode("unicode_escape", "backslashreplace").decode("ascii")
