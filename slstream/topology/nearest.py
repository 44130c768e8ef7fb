"""Which known name did the user mean?"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

_SHOWN = 12


def hint(name: str, known: Iterable[str]) -> str:
    """The tail of an error message about an unknown name.

    Args:
        name: what was written.
        known: every name that would have been accepted.

    Returns:
        ``; did you mean "id"? (known: id, label, path)``, without the question when nothing is
        near, with at most twelve names listed.
    """
    names = sorted(known)
    if not names:
        return " (none is known)"
    folded = {candidate.casefold(): candidate for candidate in reversed(names)}
    near = get_close_matches(name.casefold(), folded, n=1, cutoff=0.6)
    question = f'; did you mean "{folded[near[0]]}"?' if near else ""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{question} (known: {', '.join(names[:_SHOWN])}{more})"
