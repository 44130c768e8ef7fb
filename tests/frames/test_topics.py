from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slstream.frames.topics import (
    LinkName,
    TelemetryName,
    check_name,
    consumer_group,
    divergences_topic,
    incarnations_topic,
    link_prefix,
    link_topic,
    links_prefix,
    lobby_topic,
    parse_link_topic,
    parse_telemetry_topic,
    schemas_topic,
    telemetry_topic,
)

WORDS = st.text("abcto019", min_size=1, max_size=4).filter(lambda word: word != "to")
NAMES = st.lists(WORDS, min_size=1, max_size=5).map("-".join)


def test_names() -> None:
    assert link_topic("credit", "bob", "alice", "s1") == "credit.bob-to-alice.s1"
    assert lobby_topic("credit") == "credit.lobby"
    assert schemas_topic("credit") == "credit.schemas"
    assert telemetry_topic("credit", "bob") == "credit.telemetry.bob"
    assert incarnations_topic("credit", "bob") == "credit.incarnations.bob"
    assert divergences_topic("credit", "bob") == "credit.divergences.bob"


@given(NAMES, NAMES, NAMES, NAMES)
def test_link_topics_read_back_in_one_way(
    federation: str, sender: str, receiver: str, session: str
) -> None:
    if sender == receiver:
        return
    topic = link_topic(federation, sender, receiver, session)
    assert parse_link_topic(topic) == LinkName(
        federation=federation, sender=sender, receiver=receiver, session=session
    )


def test_telemetry_topics_read_back() -> None:
    expected = TelemetryName(federation="credit", party="north-bank")
    assert parse_telemetry_topic("credit.telemetry.north-bank") == expected


def test_the_longest_names_fit_a_transport() -> None:
    names = [letter * 40 for letter in "abcd"]
    assert len(link_topic(*names)) <= 200


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", "expected lower-case letters and digits"),
        ("Bob", "expected lower-case letters"),
        ("bob.x", r"found 'bob\.x'"),
        ("bob_x", "single hyphens"),
        ("-bob", "single hyphens"),
        ("bob-", "single hyphens"),
        ("bob--x", "single hyphens"),
        ("bob\n", "single hyphens"),
        ("böb", "lower-case letters"),
        ("b٣b", "lower-case letters"),
        ("a" * 41, "expected at most 40 characters, found 41"),
        ("a-to-b", "expected no word 'to'"),
        ("to-b", "expected no word 'to'"),
        ("a-to", "expected no word 'to'"),
    ],
)
def test_names_outside_the_rules_are_refused(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=f"party name: .*{message}"):
        check_name(name, "party")
    for build, names in (
        (link_topic, ("credit", name, "alice", "s1")),
        (link_topic, ("credit", "alice", name, "s1")),
        (link_topic, ("credit", "bob", "alice", name)),
        (link_topic, (name, "bob", "alice", "s1")),
        (lobby_topic, (name,)),
        (schemas_topic, (name,)),
        (telemetry_topic, ("credit", name)),
        (telemetry_topic, (name, "bob")),
    ):
        topic: Callable[..., str] = build
        with pytest.raises(ValueError, match=message):
            topic(*names)


def test_words_that_only_contain_to_are_allowed() -> None:
    assert check_name("tokyo-photo-2to3", "party") == "tokyo-photo-2to3"


def test_a_party_has_no_link_to_itself() -> None:
    with pytest.raises(ValueError, match="two different parties, found 'bob' twice"):
        link_topic("credit", "bob", "bob", "s1")


@pytest.mark.parametrize(
    "topic",
    [
        "",
        "credit.lobby",
        "credit.telemetry.bob",
        "credit.bob-to-alice",
        "credit.bob-to-alice.s1.x",
        "credit.bob-to-to-alice.s1",
        "credit.a-to-b-to-c.s1",
        "credit.bob-to-bob.s1",
        "credit.-to-.s1",
        "credit.bob-to-alice.s1\n",
    ],
)
def test_other_topics_are_not_links(topic: str) -> None:
    with pytest.raises(ValueError, match=r"expected|link"):
        parse_link_topic(topic)


@pytest.mark.parametrize("topic", ["credit.lobby", "credit.telemetry.", "credit.telemetry.a.b"])
def test_other_topics_are_not_telemetry(topic: str) -> None:
    with pytest.raises(ValueError, match=r"expected '<federation>\.telemetry\.<party>'"):
        parse_telemetry_topic(topic)


def test_what_rights_are_given_to() -> None:
    topic = link_topic("credit", "bob", "alice", "s1")
    assert links_prefix("credit", "bob") == "credit.bob-to-"
    assert link_prefix("credit", "bob", "alice") == "credit.bob-to-alice."
    assert topic.startswith(link_prefix("credit", "bob", "alice"))
    assert topic.startswith(links_prefix("credit", "bob"))
    assert not link_topic("credit", "bobby", "alice", "s1").startswith(
        links_prefix("credit", "bob")
    )
    assert not link_topic("credit", "bob", "alice-x", "s1").startswith(
        link_prefix("credit", "bob", "alice")
    )
    assert consumer_group("credit", "bob") == "credit.bob"


@pytest.mark.parametrize("name", ["a.b", "", "to", "A"])
def test_rights_are_given_to_proper_names_only(name: str) -> None:
    for function in (links_prefix, consumer_group):
        with pytest.raises(ValueError, match="name: expected"):
            function("credit", name)
    with pytest.raises(ValueError, match="name: expected"):
        link_prefix("credit", name, "alice")
