from __future__ import annotations

import pytest

from tests.faults import strace


@pytest.mark.parametrize(
    ("ci", "outcome"), [("true", pytest.fail.Exception), ("", pytest.skip.Exception)]
)
def test_without_strace_ci_fails_and_others_skip(
    monkeypatch: pytest.MonkeyPatch, ci: str, outcome: type[BaseException]
) -> None:
    monkeypatch.setenv("CI", ci)
    monkeypatch.setattr(strace, "why_not", lambda: "strace is not installed")
    with pytest.raises(outcome, match="apt-get install strace"):
        strace.require_strace()


def test_with_strace_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strace, "why_not", lambda: None)
    strace.require_strace()
