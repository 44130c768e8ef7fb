"""Control messages round-trip; anything else is refused with a reason."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slstream.errors import RemoteProtocolError
from slstream.protocol.messages import (
    MAX_MESSAGE_BYTES,
    Announce,
    Message,
    Verdict,
    decode_message,
    encode_message,
)
from tests.protocol.test_actions import HASH, MESSAGES

ANNOUNCE = Announce(
    session="20260101-1",
    federation="credit",
    label_party="alice",
    agreed={"loss": "bce", "parties": {"alice": {"role": "label"}}},
    digest=HASH,
    id_key="0f" * 16,
    environment={"torch": "2.6"},
    incarnation=7,
)


@pytest.mark.parametrize("message", [*MESSAGES, ANNOUNCE], ids=lambda m: m.type)
def test_round_trip(message: Message) -> None:
    data = encode_message(message)
    assert decode_message(data) == message
    assert encode_message(decode_message(data)) == data


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", "is not JSON"),
        (b"[]", "control message"),
        (b"[" * 100_000, "is not JSON"),
        (b'{"type":"abort","reason":"x","reason":"y"}', "a key is repeated"),
        (b'{"type":"explode"}', "explode"),
        (b'{"type":"ready","more":1}', "more"),
        (b'{"type":"verdict","epoch":true,"metrics":{},"proceed":true,"reason":""}', "epoch"),
        (b'{"type":"verdict","epoch":-1,"metrics":{},"proceed":true,"reason":""}', "epoch"),
        (b'{"type":"verdict","epoch":1,"metrics":{"a":NaN},"proceed":true,"reason":""}', "NaN"),
        (b'{"type":"done","weights":"xyz"}', "weights"),
        (b'{"type":"resume","session":"s"}', "resume.incarnation: Field required"),
        (b'{"type":"resume","session":"s","incarnation":0}', "incarnation"),
        (b'{"type":"close","session":"s","outcome":"failed","incarnation":4294967296}', "incarna"),
        (b'{"type":"close","session":"s","outcome":"interrupted","incarnation":1}', "outcome"),
        (b"\xff\xfe", "is not JSON"),
        (b" " * (MAX_MESSAGE_BYTES + 1), "at most 1048576"),
    ],
)
def test_refusals_name_the_field(data: bytes, text: str) -> None:
    with pytest.raises(RemoteProtocolError, match=text):
        decode_message(data)


def test_a_refusal_is_short_whatever_was_sent() -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        decode_message(b'{"type":"%s"}' % (b"x" * 500_000))
    assert len(str(caught.value)) < 1000


@given(st.binary(max_size=200))
def test_foreign_bytes_raise_one_error_only(data: bytes) -> None:
    with contextlib.suppress(RemoteProtocolError):
        decode_message(data)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(key=st.sampled_from(["epoch", "metrics", "proceed", "reason", "type"]), value=json_values)
def test_a_mutated_message_is_refused_or_valid(key: str, value: object) -> None:
    verdict = Verdict(epoch=1, metrics={"auc": 0.5}, proceed=True, reason="")
    document = verdict.model_dump(mode="json") | {key: value}
    with contextlib.suppress(RemoteProtocolError):
        decode_message(json.dumps(document).encode())
