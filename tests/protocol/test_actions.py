"""Every (state, input) pair: a waiting state takes the frame it names, refuses all others."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slstream.errors import ProtocolError, RemoteProtocolError, SessionAborted, SessionRefused
from slstream.frames.header import FrameKind
from slstream.protocol.actions import Arrival, Hear, Receive
from slstream.protocol.messages import (
    Abort,
    Close,
    Done,
    End,
    Join,
    Message,
    Open,
    Ready,
    Refuse,
    Resume,
    Verdict,
    encode_message,
)
from tests.protocol.loopback import control

HASH = "ab" * 32
MESSAGES: list[Message] = [
    Resume(session="s", incarnation=2),
    Close(session="s", outcome="finished", incarnation=1),
    Join(digest=HASH, rows=3, cut=[4], schemas={}, environment={}),
    Refuse(reason="no"),
    Open(alignment=HASH, train_rows=2, validation_rows=1, schemas={}, party_rows={}),
    Ready(),
    Verdict(epoch=1, metrics={}, proceed=True, reason=""),
    Done(weights=HASH),
    End(weights={"a": HASH}),
    Abort(reason="no"),
]
small = st.integers(0, 3)
kinds = st.sampled_from(list(FrameKind))
payloads = st.one_of(st.binary(max_size=8), st.sampled_from([encode_message(m) for m in MESSAGES]))
arrivals = st.builds(
    Arrival,
    kind=kinds,
    epoch=small,
    step=small,
    micro_batch=small,
    schema_id=small,
    payload=payloads,
)
waits = st.builds(
    Receive,
    peer=st.just("bob"),
    kind=st.sampled_from([k for k in FrameKind if k is not FrameKind.CONTROL]),
    epoch=small,
    step=small,
    micro_batch=small,
)
hears = st.builds(
    Hear,
    peer=st.just("bob"),
    types=st.sets(st.sampled_from([Join, Open, Ready, Verdict, Done, End]), min_size=1).map(tuple),
)


@given(state=waits, arrival=arrivals)
def test_receive_takes_exactly_its_frame(state: Receive, arrival: Arrival) -> None:
    fits = (arrival.kind, arrival.epoch, arrival.step, arrival.micro_batch) == (
        state.kind,
        state.epoch,
        state.step,
        state.micro_batch,
    )
    if fits:
        assert state.accept(arrival) is arrival
    else:
        with pytest.raises(ProtocolError):
            state.accept(arrival)


@given(state=hears, arrival=arrivals)
def test_hear_takes_exactly_its_messages(state: Hear, arrival: Arrival) -> None:
    wanted = [encode_message(m) for m in MESSAGES if isinstance(m, state.types)]
    if arrival.kind is FrameKind.CONTROL and arrival.payload in wanted:
        assert isinstance(state.accept(arrival), state.types)
    else:
        with pytest.raises(ProtocolError):
            state.accept(arrival)


@pytest.mark.parametrize("message", MESSAGES, ids=lambda m: m.type)
def test_only_last_words_end_a_wait_for_a_tensor(message: Message) -> None:
    state = Receive(peer="bob", kind=FrameKind.ACTIVATION, epoch=1, step=2)
    arrival = control(encode_message(message))
    with pytest.raises(ProtocolError) as caught:
        state.accept(arrival)
    assert isinstance(caught.value, SessionAborted) == isinstance(message, Abort)
    assert isinstance(caught.value, SessionRefused) == isinstance(message, Refuse)
    assert isinstance(caught.value, RemoteProtocolError) == (
        not isinstance(message, Abort | Refuse)
    )


def test_the_error_says_what_was_expected_and_found() -> None:
    state = Receive(peer="bob", kind=FrameKind.ACTIVATION, epoch=1, step=2)
    arrival = Arrival(
        kind=FrameKind.ACTIVATION, epoch=1, step=3, micro_batch=0, schema_id=4, payload=b""
    )
    with pytest.raises(RemoteProtocolError) as caught:
        state.accept(arrival)
    assert str(caught.value) == (
        "bob sent activation of epoch 1, step 3; expected activation of epoch 1, step 2"
    )
    with pytest.raises(RemoteProtocolError) as caught:
        Hear(peer="bob", types=(Join,)).accept(control(encode_message(Ready())))
    assert str(caught.value) == "bob sent the message 'ready'; expected the message 'join'"
