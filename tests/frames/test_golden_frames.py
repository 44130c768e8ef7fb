from __future__ import annotations

import json

import pytest

from slstream.frames.frame import Frame
from slstream.frames.header import FrameKind
from slstream.frames.link import FrameReader, LinkPosition

from .golden_frames import CASES, FOLDER, document


def test_every_case_has_its_file_and_every_file_its_case() -> None:
    assert {path.stem for path in FOLDER.glob("*.json")} == set(CASES)


@pytest.mark.parametrize("name", CASES)
def test_the_same_bytes_are_written(name: str) -> None:
    assert (FOLDER / f"{name}.json").read_text() == document(*CASES[name]) + "\n"


@pytest.mark.parametrize("name", CASES)
def test_old_bytes_are_read(name: str) -> None:
    golden = json.loads((FOLDER / f"{name}.json").read_text())
    fields = golden["frame"]
    expected = Frame(
        **{
            **fields,
            "kind": FrameKind(fields["kind"]),
            "payload": bytes.fromhex(fields["payload"]),
        }
    )
    reader = FrameReader(position=LinkPosition(next_sequence=expected.sequence, incarnation=1))
    *others, last = [reader.push(bytes.fromhex(value)) for value in golden["values"]]
    assert last == expected
    assert others == [None] * len(others)
