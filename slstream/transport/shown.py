"""URLs in messages."""

from __future__ import annotations

import re


def shown(url: str) -> str:
    """A URL as it may be told: without a user, a password and the values of settings.

    None of these belongs in the URL of a log: it is enough to say where they were found.
    """
    return re.sub(r"=[^&#]*", "=...", re.sub(r"//.*@", "//...@", url))
