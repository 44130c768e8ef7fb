from __future__ import annotations

import pytest

from tests.faults import strace


@pytest.mark.parametrize(
    ("wanted", "outcome"), [("1", pytest.fail.Exception), ("", pytest.skip.Exception)]
)
def test_without_strace_the_tests_are_skipped_unless_it_is_required(
    monkeypatch: pytest.MonkeyPatch, wanted: str, outcome: type[BaseException]
) -> None:
    monkeypatch.setenv("SLSTREAM_REQUIRE_STRACE", wanted)
    monkeypatch.setattr(strace, "why_not", lambda: "strace is not installed")
    with pytest.raises(outcome, match="apt-get install strace"):
        strace.require_strace()


def test_with_strace_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strace, "why_not", lambda: None)
    strace.require_strace()
