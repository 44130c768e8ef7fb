from __future__ import annotations

import pytest

from slstream.archive.contents import TopicRole, role_of, session_of


@pytest.mark.parametrize(
    ("topic", "role"),
    [
        ("f.a-to-b.s1", TopicRole.LINK),
        ("f.a-to-b.s2", None),
        ("g.a-to-b.s1", None),
        ("f.lobby", TopicRole.LOBBY),
        ("f.schemas", TopicRole.SCHEMAS),
        ("f.incarnations.a", TopicRole.INCARNATIONS),
        ("f.divergences.a", TopicRole.DIVERGENCES),
        ("f.telemetry.a", None),
        ("f.other", None),
        ("g.lobby", None),
        ("", None),
    ],
)
def test_what_a_topic_is_for(topic: str, role: TopicRole | None) -> None:
    assert role_of(topic, "f", "s1") is role


@pytest.mark.parametrize(
    "value", [b"", b"{", b"[" * 100_000, b'["s1"]', b'{"session":1}', b"{}", b" " * 2_000_000]
)
def test_other_records_are_about_no_session(value: bytes) -> None:
    assert session_of(value) is None


def test_a_record_says_what_session_it_is_about() -> None:
    assert session_of(b'{"session":"s1","type":"whatever comes later"}') == "s1"
