"""What crosses a session's links, and what the parties make of it when it is hostile."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from slstream.errors import PeerTimeout, RemoteProtocolError, SessionAborted, SessionRefused
from slstream.party import outbound
from slstream.party.alignment import DIGEST_BYTES
from slstream.party.driver import printable_reason
from slstream.party.inbound import Places
from slstream.party.label_actions import LabelActions
from slstream.protocol.actions import Action, Update
from slstream.protocol.messages import Open, Verdict, decode_message, encode_message
from slstream.transport.contract import Record
from slstream.transport.embedded.transport import EmbeddedTransport
from tests.party.small_session import (
    Outcome,
    Tampering,
    compute_alone,
    run_all,
    summary_of,
    topology,
)

Change = Callable[[bytes], bytes]

NAN = struct.pack("<f", float("nan"))

# Records of the links in a session with one feature party.
JOIN, IDS, READY, ACTIVATION_1 = range(4)  # bob to alice
MATCH, OPEN, GRADIENT_1 = range(3)  # alice to bob


def replaced(number: int, change: Change) -> Callable[[int, Record], list[Record]]:
    """Change the value of one record of a link."""

    def apply(seen: int, record: Record) -> list[Record]:
        if seen != number:
            return [record]
        return [Record(key=record.key, headers=record.headers, value=change(record.value))]

    return apply


def with_payload(change: Change) -> Change:
    """Change a payload and the header's statement of its length."""

    def apply(value: bytes) -> bytes:
        payload = change(value[40:])
        return value[:34] + struct.pack(">I", len(payload)) + value[38:40] + payload

    return apply


def with_field(offset: int, data: bytes) -> Change:
    return lambda value: value[:offset] + data + value[offset + len(data) :]


def nan_at_the_end(value: bytes) -> bytes:
    return value[:-4] + NAN


HOSTILE = [
    # (sender, record, change, error of the receiver)
    ("bob", ACTIVATION_1, nan_at_the_end, "activation of epoch 1, step 1 .* NaN or infinite"),
    (
        "bob",
        ACTIVATION_1,
        with_payload(lambda p: p[:-4]),
        "activation of epoch 1, step 1 .*refuse",
    ),
    ("bob", ACTIVATION_1, with_field(1, b"\0\0\0\x63"), "with schema id 99; negotiated was"),
    (
        "bob",
        ACTIVATION_1,
        with_field(6, b"\x02"),
        "sent gradient of epoch 1, step 1 with sch",
    ),
    (
        "bob",
        ACTIVATION_1,
        with_field(20, b"\0\x02"),
        "epoch 2, step 1; expected .* epoch 1, step",
    ),
    ("bob", ACTIVATION_1, with_field(8, b"\0\0\0\0"), "no frame of this link.*incarnation"),
    ("bob", ACTIVATION_1, with_field(34, b"\xff\xff\xff\xff"), "no frame of this link.*FrameToo"),
    ("bob", ACTIVATION_1, lambda value: value[:30], "no frame of this link.*TruncatedFrame"),
    ("bob", ACTIVATION_1, lambda _: b"GET / HTTP/1.1", "no frame of this link"),
    ("bob", IDS, with_payload(lambda p: p[:-DIGEST_BYTES]), "id digests of bob .*expected"),
    (
        "bob",
        IDS,
        with_payload(lambda p: p[DIGEST_BYTES:] + p[:DIGEST_BYTES]),
        "id digests of bob .*sorted and unique",
    ),
    ("bob", JOIN, with_payload(lambda _: b'{"type":"ready"}'), "'ready'; expected the message 'jo"),
    ("bob", READY, with_payload(lambda _: b"{}"), "control message"),
    ("alice", MATCH, with_payload(lambda p: p + b"\0"), "match bitmap of alice .*expected"),
    ("alice", GRADIENT_1, nan_at_the_end, "gradient of epoch 1, step 1 .* NaN or infinite"),
    (
        "alice",
        GRADIENT_1,
        with_field(22, b"\0\0\0\x07"),
        "step 7; expected gradient of epoch 1",
    ),
]


@pytest.mark.parametrize(("sender", "record", "change", "text"), HOSTILE)
def test_hostile_records_end_the_receiver_with_party_topic_and_offset(
    sender: str,
    record: int,
    change: Change,
    text: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    receiver = "alice" if sender == "bob" else "bob"
    Tampering(sender=sender, receiver=receiver, change=replaced(record, change)).install(
        monkeypatch
    )
    outcomes = run_all(tmp_path / "run", topology(tmp_path))
    error = outcomes[receiver]
    assert isinstance(error, RemoteProtocolError), error
    message = str(error)
    assert sender in message
    assert f"topic small.{sender}-to-{receiver}." in message
    assert f"offset {record}" in message
    assert_matches(message, text)
    assert not (tmp_path / "run" / receiver / "model.safetensors").exists()
    # The sender, who may not know of any fault, is told.
    assert isinstance(outcomes[sender], SessionAborted | SessionRefused), outcomes[sender]
    assert f"{receiver} gave up: " in str(outcomes[sender])


def assert_matches(message: str, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        raise ValueError(message)


def last_gradient_is_nan(steps: int) -> Tampering:
    return Tampering(
        sender="alice",
        receiver="bob",
        change=replaced(GRADIENT_1 + steps - 1, nan_at_the_end),
    )


def test_no_weights_are_written_after_a_bad_last_gradient(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Without validation rows nothing is computed between the last gradient and the weights.
    training = {"batch_size": 16, "epochs": 1, "validation": 0}
    last_gradient_is_nan(steps=3).install(monkeypatch)
    outcomes = run_all(tmp_path / "run", topology(tmp_path, training=training))
    assert isinstance(outcomes["bob"], RemoteProtocolError)
    assert_matches(str(outcomes["bob"]), r"gradient of epoch 1, step 3 .*offset 4.*NaN")
    assert isinstance(outcomes["alice"], SessionAborted)
    assert not (tmp_path / "run" / "bob" / "model.safetensors").exists()
    assert not list((tmp_path / "run" / "bob").rglob("*.safetensors"))


def test_a_bad_evaluation_frame_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    change = replaced(ACTIVATION_1 + 3, nan_at_the_end)
    Tampering(sender="bob", receiver="alice", change=change).install(monkeypatch)
    error = run_all(tmp_path / "run", topology(tmp_path))["alice"]
    assert isinstance(error, RemoteProtocolError)
    assert_matches(str(error), r"bob's evaluation of epoch 1, step 1 .*offset 6.* NaN")


def rewritten(message: type, **changes: object) -> Change:
    def apply(payload: bytes) -> bytes:
        found = decode_message(payload)
        assert isinstance(found, message)
        return encode_message(found.model_copy(update=changes))

    return with_payload(apply)


@pytest.mark.parametrize(
    ("number", "change", "text"),
    [
        (OPEN, rewritten(Open, alignment="0" * 64), r"alignment = 0000.*this party computed"),
        (
            OPEN,
            rewritten(Open, train_rows=7),
            r"train_rows = 7; this party computed 36",
        ),
        (GRADIENT_1 + 3, rewritten(Verdict, epoch=2), r"verdict is on epoch 2"),
    ],
)
def test_what_the_label_party_says_is_checked(
    number: int,
    change: Change,
    text: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Tampering(sender="alice", receiver="bob", change=replaced(number, change)).install(monkeypatch)
    error = run_all(tmp_path / "run", topology(tmp_path))["bob"]
    assert isinstance(error, RemoteProtocolError), error
    assert_matches(str(error), text)
    assert_matches(str(error), rf"topic small\.alice-to-bob\..*, offset {number}\)")


def test_a_refusal_is_heard_while_another_peer_is_waited_for(tmp_path: Path) -> None:
    # bob, who is heard first, never starts.
    federation = topology(tmp_path, features=2)
    other = topology(tmp_path, features=2, seed=4)
    outcomes = run_all(tmp_path / "run", {"alice": federation, "carol": other})
    assert isinstance(outcomes["alice"], SessionRefused)
    assert "carol refused to take part: its topology differs" in str(outcomes["alice"])


def test_one_that_gives_up_ends_all_and_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    change = replaced(ACTIVATION_1 + 1, lambda value: b"")
    Tampering(sender="carol", receiver="alice", change=change).install(monkeypatch)
    outcomes = run_all(tmp_path / "run", topology(tmp_path, features=3))
    assert isinstance(outcomes["alice"], RemoteProtocolError)
    for name in ("bob", "carol", "dave"):
        assert isinstance(outcomes[name], SessionAborted)
        assert "alice gave up: carol sent a record that is no frame" in str(outcomes[name])


def test_a_peer_that_never_comes_is_named_with_topic_and_offset(tmp_path: Path) -> None:
    federation = topology(tmp_path, timeouts={"peer_s": 1})
    outcomes: dict[str, Outcome] = run_all(tmp_path / "run", {"alice": federation})
    error = outcomes["alice"]
    assert isinstance(error, PeerTimeout)
    assert_matches(
        str(error),
        r"no sign of bob for 1 s while waiting for bob's message 'join' "
        r"\(topic small\.bob-to-alice\.[0-9a-f-]+, offset 0\)",
    )


def test_reasons_are_cut_and_can_always_be_encoded() -> None:
    assert printable_reason("x" * 5000) == "x" * 1000
    assert printable_reason("caf\udce9") == "caf?"


def test_links_hold_what_the_schedule_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kinds: list[bytes] = []

    def note(_: int, record: Record) -> Sequence[Record]:
        kinds.append(dict(record.headers)["kind"] + b" " + dict(record.headers)["step"])
        return [record]

    Tampering(sender="bob", receiver="alice", change=note).install(monkeypatch)
    training = {"batch_size": 20, "epochs": 1, "validation": 0.25}
    run_all(tmp_path / "run", topology(tmp_path, training=training))
    assert kinds == [
        b"control 0/0",
        b"ids 0/0",
        b"control 0/0",
        b"activation 1/1",
        b"activation 1/2",
        b"evaluation 1/1",
        b"control 0/0",
    ]


def test_gradients_go_together_and_before_the_update(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The update would take the interpreter from the thread that commits them.
    monkeypatch.setattr(outbound, "NEAR_S", 20)
    append, perform = EmbeddedTransport.append, LabelActions.perform
    pending, sent, at_once, at_updates = 0, 0, [], []

    async def count(log: EmbeddedTransport, topic: str, records: Sequence[Record]) -> int:
        nonlocal pending, sent
        if dict(records[0].headers).get("kind") != b"gradient":
            return await append(log, topic, records)
        pending += 1
        at_once.append(pending)
        offset = await append(log, topic, records)
        pending, sent = pending - 1, sent + 1
        return offset

    async def look(actions: LabelActions, action: Action, places: Places) -> object:
        if isinstance(action, Update):
            at_updates.append(sent)
        return await perform(actions, action, places)

    monkeypatch.setattr(EmbeddedTransport, "append", count)
    monkeypatch.setattr(LabelActions, "perform", look)
    compute_alone(monkeypatch)
    training = {"batch_size": 20, "epochs": 2, "validation": 0.25}
    for end in run_all(tmp_path / "run", topology(tmp_path, 2, training=training)).values():
        summary_of(end)
    assert at_once == [1, 2] * 4
    assert at_updates == [2, 4, 6, 8]
