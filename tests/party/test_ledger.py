from __future__ import annotations

from slstream.frames.header import FrameKind
from slstream.party.ledger import Ledger
from slstream.party.summary import Traffic


def test_frames_are_counted_by_receiver_kind_and_codec() -> None:
    ledger = Ledger("bob")
    for _ in range(2):
        ledger.count("alice", FrameKind.ACTIVATION, "fp16", raw_bytes=40, wire_bytes=20)
    ledger.count("alice", FrameKind.ACTIVATION, "raw32", raw_bytes=40, wire_bytes=40)
    ledger.count("carol", FrameKind.ACTIVATION, "fp16", raw_bytes=4, wire_bytes=2)
    assert [
        (t.sender, t.receiver, t.kind, t.codec, t.frames, t.raw_bytes, t.wire_bytes)
        for t in ledger.traffic()
    ] == [
        ("bob", "alice", "activation", "fp16", 2, 80, 40),
        ("bob", "alice", "activation", "raw32", 1, 40, 40),
        ("bob", "carol", "activation", "fp16", 1, 4, 2),
    ]
    assert (ledger.raw_bytes, ledger.wire_bytes) == (124, 82)


def test_what_is_no_tensor_is_one_kind() -> None:
    ledger = Ledger("bob")
    for kind in (FrameKind.CONTROL, FrameKind.IDS, FrameKind.MATCH):
        ledger.count("alice", kind, "json", raw_bytes=1, wire_bytes=1)
    assert ledger.traffic() == [
        Traffic(
            sender="bob",
            receiver="alice",
            kind="control",
            codec="json",
            frames=3,
            raw_bytes=3,
            wire_bytes=3,
        )
    ]


def test_it_can_begin_anew() -> None:
    ledger = Ledger("bob")
    ledger.count("alice", FrameKind.CONTROL, "json", raw_bytes=1, wire_bytes=1)
    ledger.clear()
    assert (ledger.traffic(), ledger.raw_bytes, ledger.wire_bytes) == ([], 0, 0)


def test_it_goes_on_from_what_a_checkpoint_says() -> None:
    before = Ledger("bob")
    before.count("alice", FrameKind.ACTIVATION, "fp16", raw_bytes=40, wire_bytes=20)
    again = Ledger("bob")
    again.count("alice", FrameKind.CONTROL, "json", raw_bytes=9, wire_bytes=9)
    again.restore(before.traffic())
    for ledger in (before, again):
        ledger.count("alice", FrameKind.ACTIVATION, "fp16", raw_bytes=40, wire_bytes=20)
    assert again.traffic() == before.traffic()
    assert (again.raw_bytes, again.wire_bytes) == (before.raw_bytes, before.wire_bytes) == (80, 40)
