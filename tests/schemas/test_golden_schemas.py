from __future__ import annotations

import hashlib
import json

import pytest

from slstream.schemas.document import Schema

from .golden_schemas import CASES, FOLDER


def test_every_case_has_its_file_and_every_file_its_case() -> None:
    assert {path.stem for path in FOLDER.glob("*.json")} == set(CASES)


@pytest.mark.parametrize("name", CASES)
def test_old_documents_keep_their_fingerprints(name: str) -> None:
    golden = json.loads((FOLDER / f"{name}.json").read_text())
    for text in (golden["document"], golden["canonical"], CASES[name]):
        schema = Schema.from_json(text.encode())
        assert schema.canonical_json() == golden["canonical"]
        assert schema.fingerprint == golden["fingerprint"]
    assert hashlib.sha256(golden["canonical"].encode()).hexdigest() == golden["fingerprint"]
