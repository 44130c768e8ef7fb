from __future__ import annotations

import json
from typing import Any

import pytest

from slstream.archive.manifest import MAX_MANIFEST_BYTES, Manifest

PARTITION = {"records": 2, "end_offset": 2, "value_bytes": 9, "sha256": "ab" * 32}


def topic(name: str, **changes: Any) -> dict[str, Any]:
    return {
        "topic": name,
        "retention_ms": None,
        "retention_bytes": None,
        "max_record_bytes": 1_048_576,
        "partitions": [PARTITION],
        **changes,
    }


LINK, LOBBY, SCHEMAS = topic("f.a-to-b.s1"), topic("f.lobby"), topic("f.schemas")


def document(**changes: Any) -> dict[str, Any]:
    return {
        "format": 1,
        "federation": "f",
        "session": "s1",
        "created_by": "slstream 0.1.0",
        "topics": [LINK, LOBBY, SCHEMAS],
        **changes,
    }


def text(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def test_it_reads_what_it_writes() -> None:
    manifest = Manifest.from_json(text(document()))
    assert manifest.to_json() == text(document())
    assert manifest.topics[0].config.partitions == 1
    assert manifest.topics[0].partitions[0].records == 2


def test_the_digest_is_about_the_contents() -> None:
    manifest = Manifest.from_json(text(document()))
    others = [document(created_by="other"), document(topics=[LOBBY, SCHEMAS])]
    same, different = (Manifest.from_json(text(each)).digest for each in others)
    assert manifest.digest == same != different


def test_holes_are_only_where_other_sessions_were() -> None:
    holes = [{**PARTITION, "end_offset": 7}]
    Manifest.from_json(text(document(topics=[LINK, topic("f.lobby", partitions=holes), SCHEMAS])))
    for name in ("f.a-to-b.s1", "f.schemas"):
        topics = [topic(name, partitions=holes) if t["topic"] == name else t for t in TOPICS]
        with pytest.raises(ValueError, match="expected 7 records up to offset 7, found 2"):
            Manifest.from_json(text(document(topics=topics)))


TOPICS = [LINK, LOBBY, SCHEMAS]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "Expecting value"),
        (b"[]", "archives of format 1, found None"),
        (b"[" * 100_000, "far too many levels"),
        (b"\x80 not UTF-8", "decode"),
        (b" " * (MAX_MANIFEST_BYTES + 1), "at most"),
        (text(document(format=2)), "reads archives of format 1, found 2"),
        (text(document(format=True)), "sorted keys|format: "),
        (text(document(more=1)), "more: Extra inputs"),
        (text(document(session="../x")), "session name"),
        (text(document(federation="F")), "federation name"),
        (text(document(topics=[LINK, LOBBY])), "expected the schemas topic"),
        (text(document(topics=[LINK, SCHEMAS])), "expected the lobby topic"),
        (text(document(topics=[LOBBY, LINK, SCHEMAS])), "links first"),
        (text(document(topics=[LINK, LINK, LOBBY, SCHEMAS])), "each once"),
        (text(document(topics=[topic("f.a-to-b.s2"), LOBBY, SCHEMAS])), "expected those of s1"),
        (text(document(topics=[topic("g.a-to-b.s1"), LOBBY, SCHEMAS])), "expected those of s1"),
        (text(document(topics=[topic("f.telemetry.a"), LOBBY, SCHEMAS])), "expected those of s1"),
        (text(document(topics=[LINK, topic("f.lobby", partitions=[]), SCHEMAS])), "partitions"),
        (text(document(topics=[LINK, topic("f.lobby", retention_ms=0), SCHEMAS])), "retention_ms"),
        (text(document(topics=[LINK, topic("f.lobby", retention_ms=1.0), SCHEMAS])), "integer"),
        (json.dumps(document()).encode(), "no white space"),
        (text(document()).replace(b"{", b'{"format":1,', 1), "each once"),
    ],
)
def test_what_is_wrong_is_said(data: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Manifest.from_json(data)
